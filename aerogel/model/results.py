"""Results of a model: named tuples; ``item._asdict()`` can be written as JSON, except for arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Answer", "Filled", "Label", "Ranked", "Span", "Sparse"]


class Sparse(NamedTuple):
    """The positive entries of a vector over the vocabulary.

    Attributes:
        indices: int64 token ids, ascending.
        values: float32 of the same length.
    """

    indices: np.ndarray
    values: np.ndarray


class Label(NamedTuple):
    """A label and its score."""

    label: str
    score: float


class Ranked(NamedTuple):
    """Index of a text in the caller's list, and its score."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    score: float


class Span(NamedTuple):
    """A labeled span of a text; `text` is its ``[start:end]``."""

    label: str
    score: float
    text: str
    start: int
    end: int


class Answer(NamedTuple):
    """A span of the context, ``text == context[start:end]``; "" at 0 means that the context has no answer."""

    score: float
    text: str
    start: int
    end: int


class Filled(NamedTuple):
    """A token for the mask, and the text with that token, without special tokens."""

    token: str
    token_id: int
    score: float
    sequence: str
