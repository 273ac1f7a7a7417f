"""Tokenised rows and the order in which they are seen.

Rows of like length share a batch, which is padded only to its own longest row: on SST-2, whose phrases are short, that
is several times less work than padding to the maximal length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from aerogel.data.task import Split
from aerogel.errors import UsageError

__all__ = ["Rows", "epoch_batches", "length_order"]

# Lengths are compared within windows of so many batches: enough to save the padding, few enough that which rows
# share a batch still changes from epoch to epoch.
_WINDOW = 50


class Rows:
    """A tokenised split; indexing with a list of rows gives one padded batch.

    Args:
        split: texts and labels.
        tokenizer: of the model.
        max_length: tokens per row.

    Raises:
        UsageError: `max_length` leaves no room for a text. Tokenizers then cut nothing.
    """

    def __init__(self, split: Split, tokenizer: Any, max_length: int) -> None:
        columns = [list(column) for column in zip(*split.texts, strict=True)]
        least = tokenizer.num_special_tokens_to_add(pair=len(columns) > 1) + len(columns)
        if max_length < least:
            raise UsageError(
                f"--max-length {max_length}: with the special tokens of this model and task a row has at least {least}"
            )
        encoded = tokenizer(*columns, truncation=True, max_length=max_length)
        self._columns = {name: encoded[name] for name in tokenizer.model_input_names if name in encoded}
        self._padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        self.labels = torch.tensor(split.labels)
        self.lengths = [len(ids) for ids in encoded["input_ids"]]

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        """Model inputs int64 ``[rows, longest]``, padded on the right, and `labels` ``[rows]``."""
        longest = max(self.lengths[row] for row in rows)
        result = {}
        for name, values in self._columns.items():
            fill = self._padding.get(name, 0)
            result[name] = torch.tensor(
                [values[row] + [fill] * (longest - self.lengths[row]) for row in rows]
            )
        result["labels"] = self.labels[rows]
        return result

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


def length_order(lengths: list[int], size: int) -> list[list[int]]:
    """All rows in batches of `size`, shortest first: for evaluation, where order does not matter."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[at : at + size] for at in range(0, len(order), size)]
