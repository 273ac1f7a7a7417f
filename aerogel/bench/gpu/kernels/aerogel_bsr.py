"""`aerogel.kernels.triton.bsr_linear`."""

from aerogel.bench.gpu.kernels._aerogel import Aerogel

__all__ = ["GPU_KERNEL"]

GPU_KERNEL = Aerogel("bsr")
