"""Batch tokenised rows for a model, and collect its outputs in row order.

Rows of similar length share a batch, which is padded to its own longest row. On SST-2, whose phrases are short, this is
several times less work than padding to the maximum length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import UsageError

if TYPE_CHECKING:
    from aerogel.data.split import Split

__all__ = ["IGNORED", "Features", "Outputs", "check_fast_tokenizer", "collect", "length_order", "padding"]

Outputs = Mapping[str, list[np.ndarray]]

IGNORED = -100
"""Target of a token that the loss ignores."""


@dataclass(frozen=True)
class Features:
    """A tokenised split. Every list has one entry per feature.

    Attributes:
        split: rows that the features were made from.
        inputs: integers by model input name, one per token.
        targets: targets of the loss by model argument name: one number per feature, or one per token.
        padding: fill value on the right by input name; 0 if absent.
        origin: what the task needs to turn outputs into predictions.
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
        """Number of tokens of each feature."""
        return [len(ids) for ids in self.inputs["input_ids"]]

    def take(self, rows: list[int]) -> Features:
        """Select features, in the given order. `origin` and `split` are unchanged."""
        inputs, targets = (
            {name: [values[row] for row in rows] for name, values in table.items()}
            for table in (self.inputs, self.targets)
        )
        return replace(self, inputs=inputs, targets=targets)

    def batch(self, rows: list[int]) -> dict[str, np.ndarray]:
        """Return model inputs, int64 ``[rows, longest]``, padded on the right."""
        return {
            name: _padded([values[row] for row in rows], self.padding.get(name, 0))
            for name, values in self.inputs.items()
        }

    def target_batch(self, rows: list[int]) -> dict[str, np.ndarray]:
        """Return the targets of the rows: int64 or float32 ``[rows]``, or int64 ``[rows, longest]``."""
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
    """Return the fill value of each model input that needs one."""
    return {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}


def check_fast_tokenizer(tokenizer: Any, task: str) -> None:
    """Check that the tokenizer is a fast one, which maps each token to its characters in the text.

    Raises:
        UsageError: the tokenizer is a slow one.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            f"{task} needs a fast tokenizer, and {type(tokenizer).__name__} is a slow one; "
            "save a tokenizer.json with the model"
        )


def length_order(lengths: list[int], size: int) -> list[list[int]]:
    """Batch all rows, shortest first, `size` rows a batch. For evaluation, where order does not matter."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[start : start + size] for start in range(0, len(order), size)]


def collect(
    features: Features,
    forward: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]],
    outputs: tuple[str, ...],
    size: int,
    *,
    per_token: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> Outputs:
    """Run a model on every feature and return its outputs in the order of the features.

    Args:
        features: model inputs.
        forward: runs one batch.
        outputs: names of the outputs; each ``[rows, ...]``, or ``[rows, longest, ...]`` with `per_token`.
        size: features per batch.
        per_token: cut each output to the feature's own tokens.
        progress: called with the number of features done.
    """
    lengths = features.lengths
    result: dict[str, list[Any]] = {name: [None] * len(features) for name in outputs}
    done = 0
    for batch in length_order(lengths, size):
        found = forward(features.batch(batch))
        for name in outputs:
            for row, value in zip(batch, found[name], strict=True):
                # Copy: a view would keep the whole padded batch in memory.
                result[name][row] = value[: lengths[row]].copy() if per_token else value
        done += len(batch)
        progress(done)
    return result
