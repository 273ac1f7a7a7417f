"""`aerogel.kernels.triton.csr_linear`."""

from aerogel.bench.gpu.kernels._aerogel import Aerogel

__all__ = ["WAY"]

WAY = Aerogel("csr")
