"""What models answer with: tuples with names, so that ``item._asdict()`` is ready for JSON."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Answer", "Filled", "Label", "Ranked", "Span", "Sparse"]


class Sparse(NamedTuple):
    """The entries above zero of a vector over the vocabulary.

    Attributes:
        indices: int64, ascending token ids.
        values: float32 of the same length.
    """

    indices: np.ndarray
    values: np.ndarray


class Label(NamedTuple):
    """A class and its score."""

    label: str
    score: float


class Ranked(NamedTuple):
    """A text by its index in the list that was given, and its score."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    score: float


class Span(NamedTuple):
    """A labelled part of a text: ``text == whole[start:end]``."""

    label: str
    score: float
    text: str
    start: int
    end: int


class Answer(NamedTuple):
    """A part of the context, ``text == context[start:end]``; "" at 0 says that the context has no answer."""

    score: float
    text: str
    start: int
    end: int


class Filled(NamedTuple):
    """A token for the masked one, and the text with it, without special tokens."""

    token: str
    token_id: int
    score: float
    sequence: str
