"""Token classification: named entities and other labels of words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aerogel.errors import UsageError
from aerogel.model.batch import Batch, Call
from aerogel.model.heads._labels import Labelled
from aerogel.model.results import Span
from aerogel.model.tokenizer import Encoded

__all__ = ["HEAD", "Tag"]

_OUTSIDE = "O"
_FIRST, _SIMPLE, _NONE = "first", "simple", "none"


@dataclass
class _Piece:
    """A token or word: scores float64 ``[labels]``, start and end in characters."""

    scores: np.ndarray
    start: int
    end: int


@dataclass
class _Group:
    """Adjacent pieces with the same label: their scores, start and end in characters."""

    label: str
    scores: list[float]
    start: int
    end: int


class Tag(Labelled):
    """Output float ``[batch, sequence, labels]``."""

    RANKS = (3,)

    def tag(self, texts: Iterable[Any], *, aggregate: bool | str = True) -> Call:
        """See `aerogel.Model.tag`."""
        mode = aggregate if isinstance(aggregate, str) else _FIRST if aggregate else _NONE
        if mode not in (_FIRST, _SIMPLE, _NONE):
            raise UsageError(
                f"aggregate={aggregate!r} is not known; known: True or 'first', False or 'none', 'simple'"
            )
        encoded = self._core.encode(texts, full=True)

        def finish(batches: Iterable[Batch]) -> list[list[Span]]:
            found: list[list[Span]] = [[]] * len(encoded)
            for batch in batches:
                for row, logits in batch.each_token():
                    found[row] = self._spans(encoded[row], logits, mode)
            return found

        return self._call(encoded, finish)

    def _spans(self, encoded: Encoded, logits: np.ndarray, mode: str) -> list[Span]:
        """The spans of a text with logits ``[tokens, labels]``."""
        names, scores, text = self._names(logits.shape[-1]), self._scores(logits), str(encoded.text)
        groups: list[_Group] = []
        for piece in _pieces(encoded.encoding, scores, text, words=mode == _FIRST):
            best = int(piece.scores.argmax())
            begins, label = (True, names[best]) if mode == _NONE else _split(names[best])
            if begins or not groups or groups[-1].label != label:
                groups.append(_Group(label, [], piece.start, piece.end))
            groups[-1].scores.append(float(piece.scores[best]))
            groups[-1].end = piece.end
        return [
            Span(
                group.label,
                sum(group.scores) / len(group.scores),
                text[group.start : group.end],
                group.start,
                group.end,
            )
            for group in groups
            if group.label != _OUTSIDE
        ]


def _pieces(encoding: Any, scores: np.ndarray, text: str, *, words: bool) -> list[_Piece]:
    """Tokens of a text without special tokens; with `words`, words with the scores of their first token.

    The pre-tokenizer and white space separate words.
    """
    pieces: list[_Piece] = []
    before = None
    for special, word, (start, end), token in zip(
        encoding.special_tokens_mask, encoding.word_ids, encoding.offsets, scores, strict=True
    ):
        if special:
            continue
        # Some tokenizers include the space before a word in its first token.
        while start < end and text[start].isspace():
            start += 1
        if words and pieces and word is not None and word == before and start <= pieces[-1].end:
            pieces[-1].end = max(end, pieces[-1].end)
        else:
            pieces.append(_Piece(token, start, end))
        before = word
    return pieces


def _split(name: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and its name: "LOC" for "B-LOC" and "I-LOC", the whole label for others."""
    if name[:2] in ("B-", "I-"):
        return name[0] == "B", name[2:]
    return False, name


HEAD = Tag
