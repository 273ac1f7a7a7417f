"""Rows of pre-training as the training loop takes them: from a stream of text, in constant memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from aerogel.data.corpus.encode import FEWEST, TextEncoder
from aerogel.data.corpus.pairs import Row
from aerogel.data.corpus.stream import Corpus, Place
from aerogel.errors import DataError

__all__ = ["TextRows", "held_out_batches"]

# Streams of random numbers that must not be the same one.
_TRAINING, _EVALUATION = 0, 1


class TextRows:
    """The rows of a corpus, numbered in the order of the stream, without end.

    Row n, its masks included, is a function of n, the corpus's seed and its files alone: neither the batch size nor how
    many processes share a batch changes it. Rows can be asked for only forwards; one block of documents is in memory.

    Args:
        corpus: the documents.
        encoder: makes rows of them.

    Raises:
        DataError: no row can be made of the corpus.
    """

    def __init__(self, corpus: Corpus, encoder: TextEncoder) -> None:
        self.corpus, self.encoder = corpus, encoder
        self._open(Place(), 0)

    def batches(self, size: int, seed: int, step: int) -> Iterator[list[int]]:
        """Rows of each step from `step` on. The order is that of the stream, which has its own seed."""
        del seed
        return (list(range(at * size, (at + 1) * size)) for at in itertools.count(step))

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        """Masked inputs and labels of rows with rising numbers: see `TextEncoder.batch`."""
        arrays = self.encoder.batch([(self._row(row), self._draw(row)) for row in rows])
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def position(self) -> dict[str, int]:
        """Where the block in memory begins, and the number of its first row."""
        return {"row": self._first, **asdict(self._place)}

    def seek(self, position: dict[str, int]) -> None:
        """Take the block that begins at `position` into memory."""
        rest = dict(position)
        self._open(first=rest.pop("row"), place=Place(**rest))

    def _row(self, number: int) -> Row:
        if number < self._first:
            raise ValueError(f"row {number} is no longer in memory, which begins at {self._first}")
        while number >= self._first + len(self._rows):
            self._open(self._next, self._first + len(self._rows))
        return self._rows[number - self._first]

    def _draw(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.corpus.seed, _TRAINING, number])

    def _open(self, place: Place, first: int) -> None:
        """Take the block at `place`, or the next one that has rows; its first row has the number `first`."""
        began = place.epoch
        while True:
            documents, after = self.corpus.read(place)
            tokenised = self.encoder.tokenise(documents)
            if self.encoder.pairs and len(tokenised) < 2 and (place, after) == (Place(), Place(1)):
                raise DataError(
                    f"{self._text()}: next-sentence rows need two documents of {FEWEST} tokens or more, and here is "
                    f"{len(tokenised)} of {len(documents)}; a blank line ends a document, --no-nsp needs but one"
                )
            if rows := self.encoder.rows(tokenised, f"rows {self.corpus.seed} {place.epoch} {place.block}"):
                break
            if after.epoch > began + 1:
                raise DataError(
                    f"{self._text()}: no document has {FEWEST} tokens; a blank line ends a document"
                )
            place = after
        self._place, self._next, self._first, self._rows = place, after, first, rows

    def _text(self) -> str:
        more = len(self.corpus.files) - 1
        return f"--text {self.corpus.files[0]}" + (f" and {more} more" if more else "")


def held_out_batches(corpus: Corpus, encoder: TextEncoder, rows: int, size: int) -> list[dict[str, Tensor]]:
    """Batches of the held-out documents' first `rows` rows. They are the same for every seed.

    Raises:
        DataError: fewer than two documents are held out, or no row can be made of them.
    """
    found: list[Row] = []
    documents = corpus.held_documents()
    used = 0
    for number in itertools.count():
        block = list(itertools.islice(documents, corpus.block))
        tokenised = encoder.tokenise(block)
        found += encoder.rows(tokenised, f"held out {number}")
        used += len(tokenised)
        if len(found) >= rows or not block:
            break
    if not found or (encoder.pairs and used < 2):
        raise DataError(
            f"--eval-fraction {corpus.held_out:g}: {used} documents of {FEWEST} tokens or more are held out, too few "
            "to evaluate on; raise it or give more text"
        )
    drawn = [(row, np.random.default_rng([_EVALUATION, at])) for at, row in enumerate(found[:rows])]
    # Rows of like length together: less padding.
    drawn.sort(key=lambda item: len(item[0].first) + len(item[0].second or []))
    batches = (encoder.batch(drawn[at : at + size]) for at in range(0, len(drawn), size))
    return [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]
