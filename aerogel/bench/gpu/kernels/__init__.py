"""GPU kernels that can be measured. Each module of this folder is one library.

It defines ``GPU_KERNELS``, a table of `aerogel.bench.gpu.kernel.GpuKernel` by name.
"""
