"""cuSPARSE through torch.sparse: feature-major activations, the bias added by the same call."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from aerogel.bench.gpu.kernel import GpuKernel, Layer, Opened

__all__ = ["CuSparse"]


class CuSparse(GpuKernel):
    """`pack` makes a sparse tensor of a layer."""

    def __init__(self, pack: Callable[[Layer], torch.Tensor]) -> None:
        self._pack = pack

    def open(self, layer: Layer) -> Opened:
        """See `Way.open`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that compressed tensors are new
            weight = self._pack(layer)
        bias = layer.bias[:, None]
        parts = (weight.values(), weight.crow_indices(), weight.col_indices())
        return Opened(
            lambda x: torch.addmm(bias, weight, x).T,
            sum(part.numel() * part.itemsize for part in parts),
            lambda x: x.T.contiguous(),
        )
