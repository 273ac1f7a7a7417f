"""The interface of sparse layers on all devices."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import nn

__all__ = ["SparseLayer"]


@runtime_checkable
class SparseLayer(Protocol):
    """A linear layer with a packed weight.

    Attributes:
        in_features: columns of the weight.
        out_features: rows of the weight.
        format: name of the storage format.
        block: (rows, cols) of the stored blocks; (1, 1) without blocks.
    """

    in_features: int
    out_features: int

    @property
    def format(self) -> str: ...  # noqa: D102 - above

    @property
    def block(self) -> tuple[int, int]: ...  # noqa: D102 - above

    def stored_tensors(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors that store the weight, values first."""

    def to_linear(self) -> nn.Linear:
        """Return the equivalent dense layer, on the same device and in the same dtype."""
