"""Value types: how the values of a matrix are stored, such as fp32, fp16 or int8."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from aerogel.registry import Registry
from aerogel.sparse.format import Arrays

if TYPE_CHECKING:
    import torch

__all__ = ["VALUE_TYPES", "ValueType"]


class ValueType(ABC):
    """How values are stored. A module of ``value_types/`` defines ``VALUE_TYPE``, an instance.

    Attributes:
        suffix: suffix of the names of the functions for this type.
        dense: whether a matrix above break-even can be stored as an ordinary dense initializer. If not, it is stored
            in blocks, all of them present.
        rounds_activations: whether `activations` changes its input.
    """

    suffix: str
    dense: bool
    rounds_activations: bool = False

    @abstractmethod
    def encode(self, weight: np.ndarray, name: str) -> tuple[np.ndarray, Arrays]:
        """Round `weight`, float32 ``[rows, cols]``, to this type.

        Returns:
            The rounded values, of the same shape, and auxiliary arrays by name, such as scales.

        Raises:
            ExportError: weight `name` has values that this type cannot represent.
        """

    @abstractmethod
    def decode(self, values: np.ndarray, auxiliary: Mapping[str, np.ndarray]) -> np.ndarray:
        """Convert values and auxiliary arrays of `encode` back to float32."""

    def activations(self, x: torch.Tensor) -> torch.Tensor:
        """Round activations, float32 ``[..., in]``, as the kernel does before the product."""
        return x


VALUE_TYPES: Registry[ValueType] = Registry("value type", "aerogel.ops.value_types", "VALUE_TYPE")
"""All value types, one a file."""
