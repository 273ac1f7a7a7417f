"""Tokenised rows as tensors, and the order in which training sees them: those of like length together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from aerogel.data.features import Features

__all__ = ["Rows", "epoch_batches"]

# Lengths are compared within windows of so many batches: enough to save the padding, few enough that which rows
# share a batch still changes from epoch to epoch.
_WINDOW = 50


class Rows:
    """A tokenised split; indexing with a list of rows gives one padded batch.

    Args:
        features: what the task made of the split.
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self.lengths = features.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        """Model inputs int64 ``[rows, longest]``, padded on the right, and the targets of the model's loss."""
        arrays = self.features.batch(rows) | self.features.target_batch(rows)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def batches(self, size: int, seed: int, step: int) -> Iterator[list[int]]:
        """Rows of each step from `step` on, epoch after epoch without end."""
        first, done = divmod(step, math.ceil(len(self) / size))
        for epoch in itertools.count(first):
            yield from epoch_batches(self.lengths, size, seed, epoch)[done:]
            done = 0

    def position(self) -> dict[str, int]:
        """What `seek` needs in a later run: nothing, as all rows are at hand."""
        return {}

    def seek(self, position: dict[str, int]) -> None:
        """Go to a `position` of an earlier run."""


def epoch_batches(lengths: list[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """All rows in batches of `size`, like lengths together, in an order drawn from `seed` and `epoch`.

    Every row occurs once; one batch, at a random place, may be smaller.
    """
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), size * _WINDOW):
        window = sorted(order[start : start + size * _WINDOW], key=lambda row: lengths[row])
        batches += [window[at : at + size] for at in range(0, len(window), size)]
    return [batches[at] for at in torch.randperm(len(batches), generator=generator).tolist()]
