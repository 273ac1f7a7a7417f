"""`aerogel.kernels.triton.bsr_linear`."""

from aerogel.bench.gpu.kernels._aerogel import Aerogel

__all__ = ["WAY"]

WAY = Aerogel("bsr")
