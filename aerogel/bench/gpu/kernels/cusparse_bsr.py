"""cuSPARSE on blocks."""

from aerogel.bench.gpu.kernels._cusparse import CuSparse

__all__ = ["WAY"]

WAY = CuSparse(lambda layer: layer.weight.to_sparse_bsr(layer.block))
