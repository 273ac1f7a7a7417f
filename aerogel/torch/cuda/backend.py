"""The choice of a kernel, or of none, for each matrix of a model that runs on a GPU."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from aerogel.errors import UsageError, require
from aerogel.torch.backend import Backend
from aerogel.torch.cuda import table
from aerogel.torch.cuda.format import CUDA_FORMATS, spelled
from aerogel.torch.format_selection import AUTO, StorageFormat
from aerogel.torch.loader import Matrix

__all__ = ["Gpu"]

# Without a block of its own, a model that was pruned weight by weight has few blocks that are empty at any size.
_BLOCK = (32, 32)


class Gpu(Backend):
    """See `aerogel.torch.sparsify` for the arguments; `own_block` is what the model was pruned in, None: unknown.

    Raises:
        UsageError: no such device here, unknown format, or a block where there is nothing to store in blocks.
        MissingExtraError: Triton is not installed.
        FormatError: the table of this device's measurements is damaged.
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
            raise UsageError(f"tokens {tokens} is out of range; give at least 1")
        self.device = device
        self._dtype, self._tokens, self._max_density = dtype, tokens, max_density
        names = CUDA_FORMATS.names() if format == AUTO else [spelled(format)]
        kinds = {name: CUDA_FORMATS.get(name) for name in names}
        self._kinds = {name: kind for name, kind in kinds.items() if kind.automatic or len(kinds) == 1}
        if block and not any(kind.blocked for kind in self._kinds.values()):
            raise UsageError(
                f"block {block[0]}x{block[1]} does not apply to format {format!r}, which has none"
            )
        pruned_in = own_block if own_block != (1, 1) else None
        self._block = block or pruned_in or _BLOCK
        blocked = any(kind.blocked for kind in self._kinds.values()) and (
            block or pruned_in or format != AUTO
        )
        # Dense products like multiples of 16 too.
        self.multiple = math.lcm(16, *(self._block if blocked else ()))
        self._rows = table.load(table.table_path(_name(device)))

    def choose(self, name: str, mask: np.ndarray) -> StorageFormat | None:
        """See `Backend.choose`: what was measured to be fastest, or else is taken to be by `Kind.limit`."""
        best: tuple[float, StorageFormat] | None = None
        for format, kind in self._kinds.items():
            way = StorageFormat(format, self._block if kind.blocked else (1, 1))
            if reason := kind.refuse(mask, way.block):
                if len(self._kinds) == 1:
                    raise UsageError(f"{name}: {reason}")
                continue
            cost = self._cost(name, way, mask)
            if cost is not None and (best is None or cost < best[0]):
                best = (cost, way)
        return best[1] if best else None

    def layer(
        self, name: str, way: StorageFormat, matrix: Matrix, bias: torch.Tensor | None, dtype: torch.dtype
    ) -> nn.Module:
        """See `Backend.layer`."""
        return CUDA_FORMATS.get(way.format).layer(name, matrix, way.block, bias, dtype, self.device)

    def _cost(self, name: str, way: StorageFormat, mask: np.ndarray) -> float | None:
        """Time over dense, as far as known; None where dense is better."""
        kind = self._kinds[way.format]
        stored = kind.stored(name, mask, way.block)
        dtype = str(self._dtype).removeprefix("torch.")
        shape = (mask.shape[0], mask.shape[1])
        ratio = table.predict(self._rows, way.format, way.block, dtype, shape, self._tokens, stored)
        known = any(
            (row.format, row.block, row.dtype) == (way.format, way.block, dtype) for row in self._rows
        )
        limit = kind.limit(way.block, self._dtype, self._tokens)
        # Where nothing was measured, time is taken to grow with what is stored and to meet dense at the limit.
        guess = stored / limit if limit else math.inf
        if self._max_density is not None:
            return (guess if ratio is None else ratio) if stored <= self._max_density else None
        if known:
            return ratio if ratio is not None and ratio < 1 else None
        return guess if guess <= 1 else None


def _check_device(device: torch.device) -> None:
    require("triton", "gpu")
    from aerogel.kernels.triton.launch import interpreted

    if device.type == "cpu" and interpreted():
        return
    if device.type != "cuda":
        raise UsageError(f"device {device} has no kernels; give 'cpu' or 'cuda'")
    if not torch.cuda.is_available():
        raise UsageError(
            "device cuda is not there: PyTorch sees no GPU; install its CUDA build and a driver, or give device='cpu'"
        )
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(f"device {device} is not there; PyTorch sees {torch.cuda.device_count()} GPUs")


def _name(device: torch.device) -> str:
    return "Triton's interpreter" if device.type == "cpu" else torch.cuda.get_device_name(device)
