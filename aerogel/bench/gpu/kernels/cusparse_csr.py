"""cuSPARSE on compressed rows."""

from aerogel.bench.gpu.kernels._cusparse import CuSparse

__all__ = ["WAY"]

WAY = CuSparse(lambda layer: layer.weight.to_sparse_csr())
