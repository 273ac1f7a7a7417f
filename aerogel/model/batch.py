"""Outputs of a batch of texts, and what a head needs to turn them into the result of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aerogel.model.tokenizer import Encoded

__all__ = ["Arrays", "Batch", "Call"]

Arrays = np.ndarray | Sequence[np.ndarray]
"""An array ``[rows, ...]``, or the arrays ``[...]`` of its rows."""


class Batch:
    """Outputs for a batch of texts.

    Args:
        rows: indices of the texts.
        lengths: number of tokens of each text.
        longest: number of tokens of the padded batch.
        arrays: float32 ``[rows, ...]`` for each requested output.
    """

    def __init__(self, rows: list[int], lengths: list[int], longest: int, arrays: Sequence[Arrays]) -> None:
        self.rows, self.lengths, self.longest, self.arrays = rows, lengths, longest, arrays

    def each(self, output: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (index of a text, its part of an output)."""
        yield from zip(self.rows, self.arrays[output], strict=True)

    def each_token(self, output: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (index of a text, its part of an output ``[tokens, ...]`` without padding)."""
        for row, length, array in zip(self.rows, self.lengths, self.arrays[output], strict=True):
            yield row, array[:length]


@dataclass(frozen=True)
class Call:
    """A call of a head's method, before its texts have run.

    Attributes:
        encoded: the texts to run.
        outputs: names of the outputs to read.
        finish: turns the texts' outputs, in any number of batches, into the result of the method. Batches refer to
            texts by their index in `encoded`.
    """

    encoded: Sequence[Encoded]
    outputs: tuple[str, ...]
    finish: Callable[[Iterable[Batch]], Any]
