"""Tokenised rows: what a model takes, in batches, and what comes out of it, in the order of the rows.

Rows of like length share a batch, which is padded only to its own longest row: on SST-2, whose phrases are short, that
is several times less work than padding to the maximal length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import UsageError

if TYPE_CHECKING:
    from aerogel.data.split import Split

__all__ = ["IGNORED", "Features", "Outputs", "collect", "fast", "length_order", "padding"]

Outputs = Mapping[str, list[np.ndarray]]

IGNORED = -100
"""Target of a token that does not count in the loss."""


@dataclass(frozen=True)
class Features:
    """A tokenised split. Every list has one entry for each feature.

    Attributes:
        split: the rows that the features were made of.
        inputs: by the name of a model's input, its integers, one for each token.
        targets: by the name of a model's argument, what its loss is made of: a number, or one for each token.
        padding: by the name of an input, what fills it on the right; 0 where nothing is said.
        origin: what the task has to know to turn outputs into predictions.
    """

    split: Split
    inputs: Mapping[str, list[list[int]]]
    targets: Mapping[str, list[Any]]
    padding: Mapping[str, int]
    origin: Any = None

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])

    @property
    def lengths(self) -> list[int]:
        """Tokens of each feature."""
        return [len(ids) for ids in self.inputs["input_ids"]]

    def take(self, rows: list[int]) -> Features:
        """Some of the features, in the given order; `origin` and `split` stay those of all."""
        inputs, targets = (
            {name: [values[row] for row in rows] for name, values in table.items()}
            for table in (self.inputs, self.targets)
        )
        return replace(self, inputs=inputs, targets=targets)

    def batch(self, rows: list[int]) -> dict[str, np.ndarray]:
        """Model inputs int64 ``[rows, longest]``, padded on the right."""
        return {
            name: _padded([values[row] for row in rows], self.padding.get(name, 0))
            for name, values in self.inputs.items()
        }

    def target_batch(self, rows: list[int]) -> dict[str, np.ndarray]:
        """Targets of the same rows: int64 or float32 ``[rows]``, or int64 ``[rows, longest]``."""
        return {name: _target([values[row] for row in rows]) for name, values in self.targets.items()}


def _target(values: list[Any]) -> np.ndarray:
    if isinstance(values[0], list):
        return _padded(values, IGNORED)
    return np.array(values, np.float32 if isinstance(values[0], float) else np.int64)


def _padded(values: list[list[int]], fill: int) -> np.ndarray:
    result = np.full((len(values), max(map(len, values))), fill, np.int64)
    for row, numbers in zip(result, values, strict=True):
        row[: len(numbers)] = numbers
    return result


def padding(tokenizer: Any) -> dict[str, int]:
    """What fills the inputs of a tokenizer's model."""
    return {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}


def fast(tokenizer: Any, task: str) -> None:
    """Demand a tokenizer that tells where in the text a token stands.

    Raises:
        UsageError: it does not.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            f"{task} needs a fast tokenizer, which knows where its tokens stand in the text, and "
            f"{type(tokenizer).__name__} is none; save a tokenizer.json with --model"
        )


def length_order(lengths: list[int], size: int) -> list[list[int]]:
    """All rows in batches of `size`, shortest first: for evaluation, where order does not matter."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[at : at + size] for at in range(0, len(order), size)]


def collect(
    features: Features,
    forward: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]],
    outputs: tuple[str, ...],
    size: int,
    *,
    per_token: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> Outputs:
    """Outputs of a model for every feature, in their order.

    Args:
        features: what the model is given.
        forward: runs one batch.
        outputs: names of the outputs wanted; each ``[rows, ...]``, or ``[rows, longest, ...]`` with `per_token`.
        size: features run at once.
        per_token: cut each output to the feature's own tokens.
        progress: told how many features are done.
    """
    lengths = features.lengths
    result: dict[str, list[Any]] = {name: [None] * len(features) for name in outputs}
    done = 0
    for batch in length_order(lengths, size):
        found = forward(features.batch(batch))
        for name in outputs:
            for row, value in zip(batch, found[name], strict=True):
                # A copy, or the whole padded batch would be kept.
                result[name][row] = value[: lengths[row]].copy() if per_token else value
        done += len(batch)
        progress(done)
    return result
