"""PyTorch's semi-structured tensors (cuSPARSELt or CUTLASS), through the "2:4" format of `aerogel.torch`."""

from aerogel.bench.gpu.kernels._aerogel import Aerogel

__all__ = ["WAY"]

WAY = Aerogel("two-four")
