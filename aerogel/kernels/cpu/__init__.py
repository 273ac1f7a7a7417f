"""CPU kernels: a C++ library (src/) with an ONNX Runtime custom-op interface and a small C interface.

CMakeLists.txt at the repository root builds it when the package is installed.
"""
