"""cuSPARSE on compressed rows."""

from aerogel.bench.gpu.kernels._cusparse import CuSparse

__all__ = ["GPU_KERNEL"]

GPU_KERNEL = CuSparse(lambda layer: layer.weight.to_sparse_csr())
