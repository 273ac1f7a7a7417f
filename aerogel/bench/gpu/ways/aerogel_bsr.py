"""`aerogel.kernels.triton.bsr_linear`."""

from aerogel.bench.gpu.ways._aerogel import Aerogel

__all__ = ["WAY"]

WAY = Aerogel("bsr")
