"""How the values of a matrix are stored: as they are, in half precision, in 8 bits."""

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
    """One way to store values. A module of ``weights/`` defines ``VALUE_TYPE``, an instance.

    Attributes:
        suffix: what the names of the functions that carry it end in.
        dense: whether a dense matrix of the graph is what it would make of a matrix that does not pay to store
            sparse. If not, that matrix is stored in blocks, all of them present.
        rounds_activations: whether `activations` changes anything.
    """

    suffix: str
    dense: bool
    rounds_activations: bool = False

    @abstractmethod
    def encode(self, weight: np.ndarray, name: str) -> tuple[np.ndarray, Arrays]:
        """Round `weight` ``[rows, columns]``, float32, to what is stored.

        Returns:
            Its values in the type they are stored as, of the same shape, and the arrays that stand beside them in
            the file, by name.

        Raises:
            ExportError: it has values that this type cannot store; calls it `name`.
        """

    @abstractmethod
    def decode(self, values: np.ndarray, beside: Mapping[str, np.ndarray]) -> np.ndarray:
        """What stored values mean, as float32."""

    def activations(self, x: torch.Tensor) -> torch.Tensor:
        """What the product makes of its input ``[..., in]``, float32, before it multiplies."""
        return x


VALUE_TYPES: Registry[ValueType] = Registry("weight type", "aerogel.ops.value_types", "VALUE_TYPE")
