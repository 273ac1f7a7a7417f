"""Rows of pre-training from documents of tokenised sentences (Devlin et al. 2019, appendix A.2).

A document is cut into chunks of consecutive sentences, each about as long as a row. With next-sentence prediction a
chunk is divided at a random sentence into A and B; in half of the rows, and where a chunk has one sentence only, B is
taken from another document instead, and the sentences that B was to be made of go back and begin the next chunk.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Row", "Sentences", "documents_to_rows"]

# Fraction of chunks that are cut short at random: fine-tuning knows shorter texts than pre-training would.
_SHORT = 0.1
_RANDOM = 0.5

Sentences = Sequence[Sequence[int]]
"""One document: the token ids of each of its sentences."""


@dataclass(frozen=True)
class Row:
    """Token ids of one row, special tokens left out.

    Attributes:
        first: segment A.
        second: segment B; None without next-sentence prediction.
        is_random: whether B is of another document.
    """

    first: list[int]
    second: list[int] | None = None
    is_random: bool = False


def documents_to_rows(
    documents: Sequence[Sentences], room: int, draw: random.Random, *, pairs: bool
) -> list[Row]:
    """All rows of some documents, shuffled.

    Args:
        documents: per document, the token ids of each sentence; no sentence is empty.
        room: tokens that a row has for text: at least 2.
        draw: decides everything random.
        pairs: make A and B. A single document has none but itself to take B from: all of its rows then have their
            true continuation, and a chunk of one sentence makes no row.
    """
    rows = []
    for number in range(len(documents)):
        rows += _paired(documents, number, room, draw) if pairs else _single(documents[number], room, draw)
    draw.shuffle(rows)
    return rows


def _single(document: Sentences, room: int, draw: random.Random) -> list[Row]:
    rows, at = [], 0
    while at < len(document):
        end = _chunk(document, at, _aim(room, 1, draw))
        rows.append(Row(_joined(document[at:end])[:room]))
        at = end
    return rows


def _paired(documents: Sequence[Sentences], number: int, room: int, draw: random.Random) -> list[Row]:
    document, rows, at = documents[number], [], 0
    while at < len(document):
        aim = _aim(room, 2, draw)
        end = _chunk(document, at, aim)
        middle = draw.randint(at + 1, max(at + 1, end - 1))
        first = _joined(document[at:middle])
        is_random = len(documents) > 1 and (middle == end or draw.random() < _RANDOM)
        if is_random:
            second = _from_another(documents, number, max(1, aim - len(first)), draw)
            end = middle
        else:
            second = _joined(document[middle:end])
        if second:
            rows.append(Row(*_cut(first, second, room, draw), is_random))
        at = end
    return rows


def _aim(room: int, least: int, draw: random.Random) -> int:
    """Tokens that a chunk should have."""
    return draw.randint(least, room) if draw.random() < _SHORT else room


def _chunk(document: Sentences, at: int, aim: int) -> int:
    """End of the chunk of sentences that begins at `at` and has at least `aim` tokens, if the document goes so far."""
    tokens = 0
    while at < len(document) and tokens < aim:
        tokens += len(document[at])
        at += 1
    return at


def _from_another(documents: Sequence[Sentences], number: int, aim: int, draw: random.Random) -> list[int]:
    """Sentences from a random place of a document other than `number`, about `aim` tokens."""
    other = draw.randrange(len(documents) - 1)
    document = documents[other + (other >= number)]
    start = draw.randrange(len(document))
    return _joined(document[start : _chunk(document, start, aim)])


def _cut(first: list[int], second: list[int], room: int, draw: random.Random) -> tuple[list[int], list[int]]:
    """Both segments with `room` tokens together, the longer one cut first; what is left begins at a random place."""
    left = min(len(first), max(room - len(second), (room + 1) // 2))
    return _window(first, left, draw), _window(second, min(len(second), room - left), draw)


def _window(segment: list[int], size: int, draw: random.Random) -> list[int]:
    start = draw.randint(0, len(segment) - size)
    return segment[start : start + size]


def _joined(sentences: Sentences) -> list[int]:
    return [token for sentence in sentences for token in sentence]
