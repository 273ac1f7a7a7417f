"""PyTorch's own Triton kernel for blocks, which its operator for BSR weights calls on GPUs."""

from __future__ import annotations

import warnings

from aerogel.bench.gpu.kernel import GpuKernel, Layer, Opened

__all__ = ["GPU_KERNEL"]


class _TorchBsr(GpuKernel):
    def open(self, layer: Layer) -> Opened:
        from torch.sparse import _triton_ops

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that compressed tensors are new
            weight = layer.weight.to_sparse_bsr(layer.block)
        bias = layer.bias[:, None]
        parts = (weight.values(), weight.crow_indices(), weight.col_indices())
        return Opened(
            lambda x: _triton_ops.bsr_dense_addmm(bias.expand(-1, x.shape[1]), weight, x).T,
            sum(part.numel() * part.itemsize for part in parts),
            lambda x: x.T.contiguous(),
        )


GPU_KERNEL = _TorchBsr()
