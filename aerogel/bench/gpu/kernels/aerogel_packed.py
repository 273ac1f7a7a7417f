"""`aerogel.kernels.triton.packed_linear`."""

from aerogel.bench.gpu.kernels._aerogel import Aerogel

__all__ = ["GPU_KERNEL"]

GPU_KERNEL = Aerogel("packed")
