"""`aerogel.kernels.triton.csr_linear`."""

from aerogel.bench.gpu.ways._aerogel import Aerogel

__all__ = ["WAY"]

WAY = Aerogel("csr")
