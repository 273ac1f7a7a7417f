"""What the sparse layers of all devices have in common."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import nn

__all__ = ["SparseLayer"]


@runtime_checkable
class SparseLayer(Protocol):
    """A linear layer whose weight is stored packed.

    Attributes:
        in_features: columns of the weight.
        out_features: rows of the weight.
        format: name of the storage format.
        block: (rows, cols) of stored blocks; (1, 1) where there are none.
    """

    in_features: int
    out_features: int

    @property
    def format(self) -> str: ...  # noqa: D102 - above

    @property
    def block(self) -> tuple[int, int]: ...  # noqa: D102 - above

    def stored_tensors(self) -> tuple[torch.Tensor, ...]:
        """What is stored of the weight, values first."""

    def to_linear(self) -> nn.Linear:
        """The dense layer that computes the same, on the same device and in the same dtype."""
