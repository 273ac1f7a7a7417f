"""Select the storage format of each matrix of a model on a GPU."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from aerogel.errors import UsageError, require
from aerogel.ops.format_selection import AUTO, StorageFormat
from aerogel.torch.backend import Backend
from aerogel.torch.cuda import table
from aerogel.torch.cuda.format import CUDA_FORMATS, module_name
from aerogel.torch.loader import Matrix

__all__ = ["Gpu"]

# Default block. A model pruned without blocks has few empty blocks of any size.
_BLOCK = (32, 32)


class Gpu(Backend):
    """Triton kernels on one GPU.

    Args:
        device: the GPU; the CPU under Triton's interpreter.
        format: see `aerogel.torch.sparsify`.
        block: see `aerogel.torch.sparsify`.
        own_block: block that the model was pruned in; None if it is unknown.
        max_density: see `aerogel.torch.sparsify`.
        dtype: dtype of the weights.
        tokens: rows per call of a layer.

    Raises:
        UsageError: an unavailable device, an unknown format, or a block for a format without blocks.
        MissingExtraError: Triton is not installed.
        FormatError: the table of this device's measurements is malformed.
    """

    def __init__(
        self,
        device: torch.device,
        format: str,
        block: tuple[int, int] | None,
        own_block: tuple[int, int] | None,
        max_density: float | None,
        dtype: torch.dtype,
        tokens: int,
    ) -> None:
        _check_device(device)
        if tokens < 1:
            raise UsageError(f"tokens {tokens}: must be at least 1")
        self.device = device
        self._dtype, self._tokens, self._max_density = dtype, tokens, max_density
        names = CUDA_FORMATS.names() if format == AUTO else [module_name(format)]
        formats = {name: CUDA_FORMATS.get(name) for name in names}
        self._formats = {n: found for n, found in formats.items() if found.automatic or len(formats) == 1}
        has_blocks = any(found.blocked for found in self._formats.values())
        if block and not has_blocks:
            raise UsageError(
                f"block {block[0]}x{block[1]} does not apply to format {format!r}, which has no blocks"
            )
        model_block = own_block if own_block != (1, 1) else None
        self._block = block or model_block or _BLOCK
        blocked = has_blocks and (block or model_block or format != AUTO)
        # Dense products are also faster with multiples of 16.
        self.multiple = math.lcm(16, *(self._block if blocked else ()))
        self._rows = table.load(table.table_path(_name(device)))

    def choose(self, name: str, mask: np.ndarray) -> StorageFormat | None:
        """See `Backend.choose`. Selects by measurements, and without any by `CudaFormat.max_density`."""
        best: tuple[float, StorageFormat] | None = None
        for format, cuda_format in self._formats.items():
            storage = StorageFormat(format, self._block if cuda_format.blocked else (1, 1))
            if reason := cuda_format.unsupported_reason(mask, storage.block):
                if len(self._formats) == 1:
                    raise UsageError(f"{name}: {reason}")
                continue
            cost = self._cost(name, storage, mask)
            if cost is not None and (best is None or cost < best[0]):
                best = (cost, storage)
        return best[1] if best else None

    def layer(
        self, name: str, storage: StorageFormat, matrix: Matrix, bias: torch.Tensor | None, dtype: torch.dtype
    ) -> nn.Module:
        """See `Backend.layer`."""
        return CUDA_FORMATS.get(storage.format).layer(name, matrix, storage.block, bias, dtype, self.device)

    def _cost(self, name: str, storage: StorageFormat, mask: np.ndarray) -> float | None:
        """Estimate the time over the dense time; None if dense is faster."""
        cuda_format = self._formats[storage.format]
        stored = cuda_format.stored(name, mask, storage.block)
        dtype = str(self._dtype).removeprefix("torch.")
        shape = (mask.shape[0], mask.shape[1])
        ratio = table.predict(self._rows, storage.format, storage.block, dtype, shape, self._tokens, stored)
        measured = any(
            (row.format, row.block, row.dtype) == (storage.format, storage.block, dtype) for row in self._rows
        )
        max_density = cuda_format.max_density(storage.block, self._dtype, self._tokens)
        # Without measurements, assume a time proportional to the stored entries, equal to dense at max_density.
        estimate = stored / max_density if max_density else math.inf
        if self._max_density is not None:
            return (estimate if ratio is None else ratio) if stored <= self._max_density else None
        if measured:
            return ratio if ratio is not None and ratio < 1 else None
        return estimate if estimate <= 1 else None


def _check_device(device: torch.device) -> None:
    require("triton", "gpu")
    from aerogel.kernels.triton.launch import interpreted

    if device.type == "cpu" and interpreted():
        return
    if device.type != "cuda":
        raise UsageError(f"device {device}: there are no kernels for it; use 'cpu' or 'cuda'")
    if not torch.cuda.is_available():
        raise UsageError(
            "device cuda: PyTorch finds no GPU; install its CUDA build and a driver, or use device='cpu'"
        )
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(
            f"device {device}: PyTorch finds only {torch.cuda.device_count()} GPUs; use a lower index"
        )


def _name(device: torch.device) -> str:
    return "Triton's interpreter" if device.type == "cpu" else torch.cuda.get_device_name(device)
