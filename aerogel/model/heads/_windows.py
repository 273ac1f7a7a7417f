"""Split a question and a long context into windows of the model's length."""

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
        encoded: the tokenized window.
        cls: position of the token for "no answer".
        first: position of the first context token.
        offsets: int64 ``[context tokens, 2]``: start and end of each token in characters of the context.
        best: boolean ``[context tokens]``: True if no other window has more context around the token.
    """

    encoded: Encoded
    cls: int
    first: int
    offsets: np.ndarray
    best: np.ndarray


def make_windows(
    tokenizer: TextTokenizer, question: str, context: str, stride: int, *, types: bool
) -> list[Window]:
    """Split a context into windows, in order; a short context is one window.

    Args:
        tokenizer: tokenizer of the model.
        question: first text of every window.
        context: second text, of any length.
        stride: context tokens between the starts of two windows.
        types: whether the model uses token types.

    Raises:
        UsageError: the question leaves no room for the context.
        ArtifactError: the tokenizer fails or does not encode pairs.
    """
    (pair,) = tokenizer.encode([("a", "a")], full=True)
    before, between, after, part_types = _frame(tokenizer, pair.encoding)
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
        segments = np.repeat(np.array(part_types, np.int32), [len(part) for part in parts])
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
    """Special tokens before, between and after the texts of a pair, and the token types of all five parts."""
    ids, parts, types = encoding.ids, encoding.sequence_ids, encoding.type_ids
    if 0 not in parts or 1 not in parts:
        raise ArtifactError(f"{tokenizer.path} does not encode pairs of texts; restore the model's tokenizer")
    one, two = parts.index(0), parts.index(1)
    one_end, two_end = len(parts) - parts[::-1].index(0), len(parts) - parts[::-1].index(1)
    segments = (types[0], types[one], types[two - 1], types[two], types[-1])
    return ids[:one], ids[one_end:two], ids[two_end:], segments


def _most_context(spans: list[tuple[int, int]], tokens: int) -> list[np.ndarray]:
    """For each window, boolean ``[tokens]``: True where it is the first window with the most context for the token.

    The context is the smaller of the numbers of tokens to the left and right, plus 0.01 times the window's length to
    break ties, as in BERT's SQuAD script.
    """
    most, owner = np.full(tokens, -1.0), np.full(tokens, -1)
    for window, (begin, end) in enumerate(spans):
        positions = np.arange(begin, end)
        score = np.minimum(positions - begin, end - 1 - positions) + 0.01 * (end - begin)
        better = score > most[begin:end]
        most[begin:end][better] = score[better]
        owner[begin:end][better] = window
    return [owner[begin:end] == window for window, (begin, end) in enumerate(spans)]
