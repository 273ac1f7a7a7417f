"""Backends for packed matrices: the native library on the CPU, Triton on GPUs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import nn

from aerogel.errors import UsageError
from aerogel.ops.format_selection import StorageFormat, candidates, select
from aerogel.torch.linear import SparseLinear
from aerogel.torch.loader import Matrix
from aerogel.torch.packed import FLOATS, check_library

__all__ = ["Backend", "Cpu"]


class Backend(ABC):
    """Stores and runs the pruned layers of one model.

    The constructor checks all settings and the machine, before a model is changed.
    """

    device: torch.device
    multiple: int
    """Both sides of a shrunk matrix must be multiples of this."""

    @abstractmethod
    def choose(self, name: str, mask: np.ndarray) -> StorageFormat | None:
        """Choose the storage format of matrix `name`; None if dense is faster.

        Raises:
            UsageError: the user chose one format and it does not fit the matrix.
        """

    @abstractmethod
    def layer(
        self, name: str, storage: StorageFormat, matrix: Matrix, bias: torch.Tensor | None, dtype: torch.dtype
    ) -> nn.Module:
        """Make the layer that multiplies by `matrix`, stored as `storage` with values of `dtype`.

        Raises:
            UsageError: the format cannot store the values or the mask.
        """


class Cpu(Backend):
    """The native library.

    Args:
        format: see `aerogel.torch.sparsify`.
        block: see `aerogel.torch.sparsify`.
        own_block: block that the model was pruned in; None if it is unknown.
        max_density: see `aerogel.torch.sparsify`.

    Raises:
        UsageError: an unknown format, or a block for a format without blocks.
        RuntimeLoadError: there is no native library.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        format: str,
        block: tuple[int, int] | None,
        own_block: tuple[int, int] | None,
        max_density: float | None,
    ) -> None:
        check_library()
        self._formats = candidates(format, block, own_block)
        self.multiple = math.lcm(*(side for storage in self._formats for side in storage.block))
        self._max_density = max_density

    def choose(self, name: str, mask: np.ndarray) -> StorageFormat | None:
        """See `Backend.choose`. The break-even is the same as in export."""
        return select(name, mask, self._formats, self._max_density)

    def layer(
        self, name: str, storage: StorageFormat, matrix: Matrix, bias: torch.Tensor | None, dtype: torch.dtype
    ) -> nn.Module:
        """See `Backend.layer`."""
        if dtype not in FLOATS:
            raise UsageError(f"{name} is {dtype}; convert the model with model.float()")
        arrays = matrix.tensors(storage.format, storage.block)
        arrays["data"] = arrays["data"].to(dtype)
        return SparseLinear(arrays, bias, matrix.mask.shape[1])
