"""Batches of tokenized rows. Rows of similar length share a batch, which saves padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from aerogel.data.features import Features

__all__ = ["Rows", "epoch_batches"]

# Rows are sorted by length within windows of this many batches. The window is long enough to save padding and short
# enough that the rows of a batch differ from epoch to epoch.
_WINDOW = 50


class Rows:
    """A tokenized split of a task, kept in memory.

    Args:
        features: the features that the task made from the split.
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self.lengths = features.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        """Model inputs int64 ``[rows, longest]``, padded on the right, and the targets of the loss."""
        arrays = self.features.batch(rows) | self.features.target_batch(rows)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def batches(self, size: int, seed: int, step: int) -> Iterator[list[int]]:
        """Yield the row indices of each step, from `step` on, without end; a new epoch follows each epoch."""
        first, done = divmod(step, math.ceil(len(self) / size))
        for epoch in itertools.count(first):
            yield from epoch_batches(self.lengths, size, seed, epoch)[done:]
            done = 0

    def position(self) -> dict[str, int]:
        """State for `seek`; empty, because all rows are in memory."""
        return {}

    def seek(self, position: dict[str, int]) -> None:
        """Do nothing; see `position`."""


def epoch_batches(lengths: list[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Divide all rows into batches of `size`, in a random order that depends on `seed` and `epoch`.

    Rows of similar length share a batch. Every row occurs once. One batch, at a random position, may be smaller.
    """
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), size * _WINDOW):
        window = sorted(order[start : start + size * _WINDOW], key=lambda row: lengths[row])
        batches += [window[first : first + size] for first in range(0, len(window), size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]
