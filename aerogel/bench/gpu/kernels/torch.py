"""PyTorch's own kernels: cuBLAS for dense layers, Triton for blocks, and semi-structured (2:4) tensors."""

from __future__ import annotations

import warnings

import torch

from aerogel.bench.gpu.kernel import GpuKernel, Layer, Opened
from aerogel.bench.gpu.kernels.aerogel import Aerogel

__all__ = ["GPU_KERNELS"]


class _Dense(GpuKernel):
    """cuBLAS, through torch.nn.functional.linear."""

    def open(self, layer: Layer) -> Opened:
        weight, bias = layer.weight.clone(), layer.bias
        return Opened(lambda x: torch.nn.functional.linear(x, weight, bias), weight.numel() * weight.itemsize)


class _Bsr(GpuKernel):
    """The Triton kernel that PyTorch's operator for BSR weights calls on GPUs."""

    def open(self, layer: Layer) -> Opened:
        from torch.sparse import _triton_ops

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that compressed tensors are in beta
            weight = layer.weight.to_sparse_bsr(layer.block)
        bias = layer.bias[:, None]
        parts = (weight.values(), weight.crow_indices(), weight.col_indices())
        return Opened(
            lambda x: _triton_ops.bsr_dense_addmm(bias.expand(-1, x.shape[1]), weight, x).T,
            sum(part.numel() * part.itemsize for part in parts),
            lambda x: x.T.contiguous(),
        )


GPU_KERNELS: dict[str, GpuKernel] = {
    "dense": _Dense(),
    "torch-bsr": _Bsr(),
    # cuSPARSELt or CUTLASS, through the format "2:4" of `aerogel.torch`.
    "two-four": Aerogel("two-four"),
}
