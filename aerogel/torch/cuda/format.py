"""The interface of a storage format on GPUs."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import nn

from aerogel.ops.format_selection import StorageFormat
from aerogel.registry import Registry
from aerogel.torch.loader import Matrix

__all__ = ["CUDA_FORMATS", "CudaFormat", "module_name"]

_TWO_FOUR = "2:4"


class CudaFormat(ABC):
    """A storage format and its kernel on GPUs. Each module of ``formats/`` defines an instance, ``FORMAT``.

    Attributes:
        blocked: whether it stores blocks.
        automatic: whether "auto" may select it.
    """

    blocked: bool = False
    automatic: bool = True

    @abstractmethod
    def unsupported_reason(self, mask: np.ndarray, block: tuple[int, int]) -> str | None:
        """Say why a matrix with this mask cannot be stored, and what can be; None if it can be stored."""

    @abstractmethod
    def max_density(self, block: tuple[int, int], dtype: torch.dtype, tokens: int) -> float:
        """Stored fraction up to which the format is assumed to be faster than dense, without measurements."""

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
        """Make the layer `name` on `device`.

        Raises:
            UsageError: the format cannot store the dtype or the matrix.
        """

    def stored(self, name: str, mask: np.ndarray, block: tuple[int, int]) -> float:
        """Return the stored fraction of a matrix with this mask."""
        return StorageFormat("", block).stored(mask, name)


CUDA_FORMATS: Registry[CudaFormat] = Registry("format", "aerogel.torch.cuda.formats", "FORMAT")


def module_name(format: str) -> str:
    """Return the registry name of a format: "two-four" for "2:4", which cannot be a module name."""
    return "two-four" if format == _TWO_FOUR else format
