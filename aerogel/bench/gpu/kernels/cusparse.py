"""cuSPARSE, through torch.sparse: feature-major activations, with the bias added by the same call."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from aerogel.bench.gpu.kernel import GpuKernel, Layer, Opened

__all__ = ["GPU_KERNELS", "CuSparse"]


class CuSparse(GpuKernel):
    """The product of a sparse tensor, which `pack` makes from a layer."""

    def __init__(self, pack: Callable[[Layer], torch.Tensor]) -> None:
        self._pack = pack

    def open(self, layer: Layer) -> Opened:
        """See `GpuKernel.open`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that compressed tensors are in beta
            weight = self._pack(layer)
        bias = layer.bias[:, None]
        parts = (weight.values(), weight.crow_indices(), weight.col_indices())
        return Opened(
            lambda x: torch.addmm(bias, weight, x).T,
            sum(part.numel() * part.itemsize for part in parts),
            lambda x: x.T.contiguous(),
        )


GPU_KERNELS: dict[str, GpuKernel] = {
    "cusparse-bsr": CuSparse(lambda layer: layer.weight.to_sparse_bsr(layer.block)),
    "cusparse-csr": CuSparse(lambda layer: layer.weight.to_sparse_csr()),
}
