"""CPU kernels: a C++ library (src/) that is both an ONNX Runtime custom-op library and a small C interface.

CMakeLists.txt at the root builds the sources when the package is installed.
"""
