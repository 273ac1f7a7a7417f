"""Build pre-training rows from tokenised documents (Devlin et al. 2019, appendix A.2).

A document is cut into chunks of consecutive sentences, each about as long as a row. For next-sentence prediction, a
chunk is split at a random sentence into segments A and B. In half of the rows, and where a chunk has only one sentence,
B comes from another document instead; the next chunk then begins with the sentences that follow A.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Row", "Sentences", "documents_to_rows"]

# Fraction of chunks with a random shorter length, because fine-tuning also sees short texts.
_SHORT = 0.1
# Fraction of rows whose segment B comes from another document.
_RANDOM = 0.5

Sentences = Sequence[Sequence[int]]
"""One document: the token ids of each of its sentences."""


@dataclass(frozen=True)
class Row:
    """Token ids of one row, without special tokens.

    Attributes:
        first: segment A.
        second: segment B; None without next-sentence prediction.
        is_random: whether B is from another document.
    """

    first: list[int]
    second: list[int] | None = None
    is_random: bool = False


def documents_to_rows(
    documents: Sequence[Sentences], room: int, draw: random.Random, *, pairs: bool
) -> list[Row]:
    """Build all rows of some documents and shuffle them.

    Args:
        documents: token ids by document and sentence; no sentence is empty.
        room: tokens of text per row, at least 2.
        draw: random generator.
        pairs: make segments A and B. If there is only one document, B is always the true continuation, and a chunk of
            one sentence makes no row.
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
    """Draw the target length of a chunk, in tokens."""
    return draw.randint(least, room) if draw.random() < _SHORT else room


def _chunk(document: Sentences, at: int, aim: int) -> int:
    """Return the end of the chunk that begins at sentence `at`: `aim` tokens or more, or the document's end."""
    tokens = 0
    while at < len(document) and tokens < aim:
        tokens += len(document[at])
        at += 1
    return at


def _from_another(documents: Sequence[Sentences], number: int, aim: int, draw: random.Random) -> list[int]:
    """Take about `aim` tokens from a random position in a document other than `number`."""
    other = draw.randrange(len(documents) - 1)
    document = documents[other + (other >= number)]
    start = draw.randrange(len(document))
    return _joined(document[start : _chunk(document, start, aim)])


def _cut(first: list[int], second: list[int], room: int, draw: random.Random) -> tuple[list[int], list[int]]:
    """Cut both segments to `room` tokens together, the longer one first. Each window begins at a random token."""
    size = min(len(first), max(room - len(second), (room + 1) // 2))
    return _window(first, size, draw), _window(second, min(len(second), room - size), draw)


def _window(segment: list[int], size: int, draw: random.Random) -> list[int]:
    start = draw.randint(0, len(segment) - size)
    return segment[start : start + size]


def _joined(sentences: Sentences) -> list[int]:
    return [token for sentence in sentences for token in sentence]
