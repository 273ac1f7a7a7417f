"""What a GPU can make of a pruned matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import nn

from aerogel.registry import Registry
from aerogel.torch.format_selection import StorageFormat
from aerogel.torch.loader import Matrix

__all__ = ["CUDA_FORMATS", "CudaFormat", "spelled"]

_TWO_FOUR = "2:4"


class CudaFormat(ABC):
    """One way to store and multiply a pruned matrix on a GPU. A module of ``kinds/`` defines ``FORMAT``, an instance.

    Attributes:
        blocked: whether it stores whole blocks.
        automatic: whether "auto" may choose it.
    """

    blocked: bool = False
    automatic: bool = True

    @abstractmethod
    def refuse(self, mask: np.ndarray, block: tuple[int, int]) -> str | None:
        """Why a matrix of this mask cannot be stored so, in words that say what can; None if it can."""

    @abstractmethod
    def limit(self, block: tuple[int, int], dtype: torch.dtype, tokens: int) -> float:
        """Share of entries stored up to which it is taken to be faster than dense where nothing was measured."""

    @abstractmethod
    def layer(
        self,
        name: str,
        matrix: Matrix,
        block: tuple[int, int],
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> nn.Module:
        """The layer called `name`, on `device`.

        Raises:
            UsageError: a dtype or a matrix that it cannot store.
        """

    def stored(self, name: str, mask: np.ndarray, block: tuple[int, int]) -> float:
        """Share of the entries of a mask that are stored, zeros in blocks included."""
        return StorageFormat("", block).stored(mask, name)


CUDA_FORMATS: Registry[CudaFormat] = Registry("format", "aerogel.torch.cuda.formats", "FORMAT")


def spelled(format: str) -> str:
    """The name in `CUDA_FORMATS` of what users write; no file can be called 2:4."""
    return "two-four" if format == _TWO_FOUR else format
