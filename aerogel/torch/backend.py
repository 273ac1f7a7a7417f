"""Where packed matrices are multiplied: on the CPU by the native library, on GPUs by Triton."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import nn

from aerogel.errors import UsageError
from aerogel.torch.format_selection import StorageFormat, best, candidates
from aerogel.torch.linear import SparseLinear
from aerogel.torch.loader import Matrix
from aerogel.torch.packed import FLOATS, check_library

__all__ = ["Backend", "Cpu"]


class Backend(ABC):
    """How the pruned layers of one model are stored and run.

    Making one refuses, before a model is changed, what cannot be meant or cannot run here.
    """

    device: torch.device
    multiple: int
    """Sides that a shrunk matrix must have a multiple of."""

    @abstractmethod
    def choose(self, name: str, mask: np.ndarray) -> StorageFormat | None:
        """How to store the matrix called `name`; None where dense is faster.

        Raises:
            UsageError: the one way that was asked for does not fit the matrix.
        """

    @abstractmethod
    def layer(
        self, name: str, way: StorageFormat, matrix: Matrix, bias: torch.Tensor | None, dtype: torch.dtype
    ) -> nn.Module:
        """The layer that multiplies by `matrix` stored in that `way`, of values of `dtype`.

        Raises:
            UsageError: its values or its mask are not what that way can store.
        """


class Cpu(Backend):
    """See `aerogel.torch.sparsify` for the arguments; `own_block` is what the model was pruned in, None: unknown.

    Raises:
        UsageError: unknown format, or a block where there is nothing to store in blocks.
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
        self._ways = candidates(format, block, own_block)
        self.multiple = math.lcm(*(side for way in self._ways for side in way.block))
        self._max_density = max_density

    def choose(self, name: str, mask: np.ndarray) -> StorageFormat | None:
        """See `Backend.choose`. The break-even is export's."""
        return best(name, mask, self._ways, self._max_density)

    def layer(
        self, name: str, way: StorageFormat, matrix: Matrix, bias: torch.Tensor | None, dtype: torch.dtype
    ) -> nn.Module:
        """See `Backend.layer`."""
        if dtype not in FLOATS:
            raise UsageError(f"{name} is {dtype}; convert the model with model.float()")
        arrays = matrix.tensors(way.format, way.block)
        arrays["data"] = arrays["data"].to(dtype)
        return SparseLinear(arrays, bias, matrix.mask.shape[1])
