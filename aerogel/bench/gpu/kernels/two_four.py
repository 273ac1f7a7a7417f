"""PyTorch's semi-structured tensors (cuSPARSELt or CUTLASS), through the "2:4" format of `aerogel.torch`."""

from aerogel.bench.gpu.kernels._aerogel import Aerogel

__all__ = ["GPU_KERNEL"]

GPU_KERNEL = Aerogel("two-four")
