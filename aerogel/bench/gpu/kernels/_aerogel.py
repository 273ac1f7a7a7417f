"""The project's own kernels, as `aerogel.torch.sparsify` would use them."""

from __future__ import annotations

from aerogel.bench.gpu.kernel import GpuKernel, Layer, Opened
from aerogel.errors import UsageError
from aerogel.torch.cuda.format import CUDA_FORMATS
from aerogel.torch.layer import SparseLayer
from aerogel.torch.loader import Matrix

__all__ = ["Aerogel"]


class Aerogel(GpuKernel):
    """One of `CUDA_FORMATS`."""

    def __init__(self, format: str) -> None:
        self._format = format

    def open(self, layer: Layer) -> Opened:
        """See `Way.open`."""
        kind = CUDA_FORMATS.get(self._format)
        if reason := kind.unsupported_reason(layer.mask, layer.block):
            raise UsageError(reason)
        weight = layer.weight
        made = kind.layer(
            "the weight", Matrix(weight.float().cpu().numpy(), layer.mask), layer.block, layer.bias, weight.dtype,
            weight.device,
        ).requires_grad_(False)  # fmt: skip
        tensors = made.stored_tensors() if isinstance(made, SparseLayer) else ()
        return Opened(made, sum(tensor.numel() * tensor.itemsize for tensor in tensors))
