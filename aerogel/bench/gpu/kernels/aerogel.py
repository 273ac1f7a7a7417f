"""Aerogel's kernels, as `aerogel.torch.sparsify` uses them."""

from __future__ import annotations

from aerogel.bench.gpu.kernel import GpuKernel, Layer, Opened
from aerogel.errors import UsageError
from aerogel.torch.cuda.format import CUDA_FORMATS
from aerogel.torch.layer import SparseLayer
from aerogel.torch.loader import Matrix

__all__ = ["GPU_KERNELS", "Aerogel"]


class Aerogel(GpuKernel):
    """The kernel of one of `CUDA_FORMATS`."""

    def __init__(self, format: str) -> None:
        self._format = format

    def open(self, layer: Layer) -> Opened:
        """See `GpuKernel.open`."""
        format = CUDA_FORMATS.get(self._format)
        if reason := format.unsupported_reason(layer.mask, layer.block):
            raise UsageError(reason)
        weight = layer.weight
        packed = format.layer(
            "the weight", Matrix(weight.float().cpu().numpy(), layer.mask), layer.block, layer.bias, weight.dtype,
            weight.device,
        ).requires_grad_(False)  # fmt: skip
        tensors = packed.stored_tensors() if isinstance(packed, SparseLayer) else ()
        return Opened(packed, sum(tensor.numel() * tensor.itemsize for tensor in tensors))


GPU_KERNELS: dict[str, GpuKernel] = {
    f"aerogel-{format}": Aerogel(format) for format in ("bsr", "csr", "packed")
}
