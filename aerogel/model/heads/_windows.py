"""A question and a long context as windows that a model can take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aerogel.errors import ArtifactError, UsageError
from aerogel.model.tokenizer import Encoded, TextTokenizer

__all__ = ["Window", "make_windows"]


@dataclass(frozen=True, eq=False)
class Window:
    """A question and a part of its context.

    Attributes:
        encoded: what the model takes.
        cls: position of the token that stands for "no answer".
        first: position of the first context token.
        offsets: int64 ``[context tokens, 2]``: first character of each in the context, and the one after its last.
        best: boolean ``[context tokens]``: no other window shows the token with more context around it.
    """

    encoded: Encoded
    cls: int
    first: int
    offsets: np.ndarray
    best: np.ndarray


def make_windows(
    tokenizer: TextTokenizer, question: str, context: str, stride: int, *, types: bool
) -> list[Window]:
    """All windows over a context, in order; one where it fits.

    Args:
        tokenizer: the model's.
        question: comes first in every window.
        context: of any length.
        stride: context tokens between the beginnings of two windows.
        types: whether the model takes token types.

    Raises:
        UsageError: the question leaves no room for the context.
        ArtifactError: the tokenizer fails, or makes no pair of two texts.
    """
    (pair,) = tokenizer.encode([("a", "a")], full=True)
    before, between, after, kinds = _frame(tokenizer, pair.encoding)
    asked, whole = tokenizer.encode_whole(question).ids, tokenizer.encode_whole(context)
    room = tokenizer.max_length - len(before) - len(asked) - len(between) - len(after)
    if room < 1:
        raise UsageError(
            f"the question takes {len(asked)} of the model's {tokenizer.max_length} tokens and leaves none for the "
            "context; shorten it"
        )
    ids, offsets = whole.ids, np.array(whole.offsets, np.int64).reshape(-1, 2)
    spans = [(0, min(room, len(ids)))]
    while spans[-1][1] < len(ids):
        begin = spans[-1][0] + min(room, stride)
        spans.append((begin, min(begin + room, len(ids))))
    cls = tokenizer.special("cls")
    position = before.index(cls) if cls in before else 0
    windows = []
    for (begin, end), best in zip(spans, _most_context(spans, len(ids)), strict=True):
        parts = (before, asked, between, ids[begin:end], after)
        numbers = np.array([number for part in parts for number in part], np.int32)
        segments = np.repeat(np.array(kinds, np.int32), [len(part) for part in parts])
        windows.append(
            Window(
                Encoded((question, context), numbers, segments if types else None),
                position,
                len(before) + len(asked) + len(between),
                offsets[begin:end],
                best,
            )
        )
    return windows


def _frame(
    tokenizer: TextTokenizer, encoding: Any
) -> tuple[list[int], list[int], list[int], tuple[int, int, int, int, int]]:
    """Special tokens before, between and after the texts of a pair, and the segments of all five parts."""
    ids, parts, kinds = encoding.ids, encoding.sequence_ids, encoding.type_ids
    if 0 not in parts or 1 not in parts:
        raise ArtifactError(f"{tokenizer.path} makes no pair of two texts; restore the model's tokenizer")
    one, two = parts.index(0), parts.index(1)
    one_end, two_end = len(parts) - parts[::-1].index(0), len(parts) - parts[::-1].index(1)
    segments = (kinds[0], kinds[one], kinds[two - 1], kinds[two], kinds[-1])
    return ids[:one], ids[one_end:two], ids[two_end:], segments


def _most_context(spans: list[tuple[int, int]], tokens: int) -> list[np.ndarray]:
    """For each window, boolean ``[its tokens]``: it is the first that shows most neighbours of the token.

    That is the smaller number of tokens to its left and right, and a hundredth of the window's length to decide ties,
    as in BERT's script for SQuAD.
    """
    most, owner = np.full(tokens, -1.0), np.full(tokens, -1)
    for number, (begin, end) in enumerate(spans):
        places = np.arange(begin, end)
        score = np.minimum(places - begin, end - 1 - places) + 0.01 * (end - begin)
        better = score > most[begin:end]
        most[begin:end][better] = score[better]
        owner[begin:end][better] = number
    return [owner[begin:end] == number for number, (begin, end) in enumerate(spans)]
