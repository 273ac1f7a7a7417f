"""The interface of a kernel: one library's product of activations and a pruned matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Kernel", "Layer"]


@dataclass(frozen=True)
class Layer:
    """The operands of a product.

    Attributes:
        weight: float32 ``[out, in]``, zero where `mask` is False.
        mask: boolean, of the same shape.
        block: (rows, cols) kept or pruned together.
        x: float32 ``[tokens, in]``.
    """

    weight: np.ndarray
    mask: np.ndarray
    block: tuple[int, int]
    x: np.ndarray

    @property
    def operations(self) -> int:
        """Multiplications and additions of the kept weights."""
        return 2 * int(np.count_nonzero(self.mask)) * len(self.x)

    @property
    def dense_operations(self) -> int:
        """Multiplications and additions of a dense matrix of this shape."""
        return 2 * self.weight.size * len(self.x)


class Kernel(ABC):
    """A library's product, on one thread.

    Packing the weight and converting activations to the library's preferred layout are not timed. Aerogel's own kernel
    gets no such help: it reads and writes token-major activations, as in a model. Block masks are stored as CSR if that
    is the library's fastest format.
    """

    @abstractmethod
    def refuse(self) -> str | None:
        """Return the reason why this kernel cannot be measured on this machine, or None if it can."""

    @abstractmethod
    def open(self, layer: Layer) -> Callable[[], np.ndarray]:
        """Return a function that computes x W^T, ``[tokens, out]``, each time it is called."""
