"""One way to multiply activations by a pruned matrix, alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Kernel", "Layer"]


@dataclass(frozen=True)
class Layer:
    """What is multiplied.

    Attributes:
        weight: float32 ``[out, in]``, zero where `mask` is False.
        mask: boolean, of the same shape.
        block: (rows, cols) kept or dropped together.
        x: float32 ``[tokens, in]``.
    """

    weight: np.ndarray
    mask: np.ndarray
    block: tuple[int, int]
    x: np.ndarray

    @property
    def operations(self) -> int:
        """Multiplications and additions of nonzeros."""
        return 2 * int(np.count_nonzero(self.mask)) * len(self.x)

    @property
    def dense_operations(self) -> int:
        """Multiplications and additions if nothing were zero."""
        return 2 * self.weight.size * len(self.x)


class Kernel(ABC):
    """A library's product, on one thread.

    Packing the weight and bringing activations into the layout that the library likes best are not timed: only this
    project's own product must take and give token-major activations, as it does in a model. Masks in blocks are stored
    as CSR where that is the library's fastest way to multiply them.
    """

    @abstractmethod
    def refuse(self) -> str | None:
        """Why it cannot be measured here, or None if it can."""

    @abstractmethod
    def open(self, layer: Layer) -> Callable[[], np.ndarray]:
        """A function that computes x W^T, ``[tokens, out]``, as often as it is called."""
