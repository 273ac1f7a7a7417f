"""Rows of pre-training for the training loop: made from a stream of text, in constant memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from aerogel.data.corpus.encode import MIN_TOKENS, TextEncoder
from aerogel.data.corpus.pairs import Row
from aerogel.data.corpus.stream import Corpus, Place
from aerogel.errors import DataError

__all__ = ["TextRows", "held_out_batches"]

# Independent streams of random numbers.
_TRAINING, _EVALUATION = 0, 1


class TextRows:
    """Endless rows of a corpus, numbered in the order of the stream.

    Row n and its masked tokens depend only on n, on the seed of the corpus and on its files, not on the batch size or
    the number of processes. Rows can be read forwards only. One block of documents is in memory.

    Args:
        corpus: the documents.
        encoder: converts documents to rows.

    Raises:
        DataError: the corpus yields no rows.
    """

    def __init__(self, corpus: Corpus, encoder: TextEncoder) -> None:
        self.corpus, self.encoder = corpus, encoder
        self._open(Place(), 0)

    def batches(self, size: int, seed: int, step: int) -> Iterator[list[int]]:
        """Yield the row numbers of each step, from `step` on, in the order of the stream; `seed` is not used."""
        del seed
        return (list(range(index * size, (index + 1) * size)) for index in itertools.count(step))

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        """Masked inputs and labels of rows, in ascending order: see `TextEncoder.batch`."""
        arrays = self.encoder.batch([(self._row(row), self._generator(row)) for row in rows])
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def position(self) -> dict[str, int]:
        """Position of the block in memory, and the number of its first row."""
        return {"row": self._first, **asdict(self._place)}

    def seek(self, position: dict[str, int]) -> None:
        """Read the block at `position` into memory."""
        place = dict(position)
        self._open(first=place.pop("row"), place=Place(**place))

    def _row(self, number: int) -> Row:
        if number < self._first:
            raise ValueError(f"row {number} is no longer in memory; the first row there is {self._first}")
        while number >= self._first + len(self._rows):
            self._open(self._next, self._first + len(self._rows))
        return self._rows[number - self._first]

    def _generator(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.corpus.seed, _TRAINING, number])

    def _open(self, place: Place, first: int) -> None:
        """Read the block at `place`, or the next one that has rows; its first row gets the number `first`."""
        first_epoch = place.epoch
        while True:
            documents, after = self.corpus.read(place)
            tokenised = self.encoder.tokenise(documents)
            if self.encoder.pairs and len(tokenised) < 2 and (place, after) == (Place(), Place(1)):
                raise DataError(
                    f"{self._text()}: next-sentence rows need 2 documents of at least {MIN_TOKENS} tokens; "
                    f"{len(tokenised)} of {len(documents)} are long enough; separate documents by a blank line, "
                    "or turn off nsp (no-nsp)"
                )
            if rows := self.encoder.rows(tokenised, f"rows {self.corpus.seed} {place.epoch} {place.block}"):
                break
            if after.epoch > first_epoch + 1:
                raise DataError(
                    f"{self._text()}: no document has {MIN_TOKENS} tokens; a blank line ends a document"
                )
            place = after
        self._place, self._next, self._first, self._rows = place, after, first, rows

    def _text(self) -> str:
        more = len(self.corpus.files) - 1
        return f"text {self.corpus.files[0]}" + (f" and {more} more" if more else "")


def held_out_batches(corpus: Corpus, encoder: TextEncoder, rows: int, size: int) -> list[dict[str, Tensor]]:
    """Make batches of the first `rows` rows of the held-out documents. They do not depend on the seed.

    Raises:
        DataError: too few documents are held out.
    """
    held_out: list[Row] = []
    documents = corpus.held_out_documents()
    used = 0
    for number in itertools.count():
        block = list(itertools.islice(documents, corpus.block))
        tokenised = encoder.tokenise(block)
        held_out += encoder.rows(tokenised, f"held out {number}")
        used += len(tokenised)
        if len(held_out) >= rows or not block:
            break
    if not held_out or (encoder.pairs and used < 2):
        raise DataError(
            f"held_out {corpus.held_out:g}: only {used} documents of at least {MIN_TOKENS} tokens are held out; "
            "raise it or give more text"
        )
    items = [(row, np.random.default_rng([_EVALUATION, index])) for index, row in enumerate(held_out[:rows])]
    # Rows of similar length share a batch, which saves padding.
    items.sort(key=lambda item: len(item[0].first) + len(item[0].second or []))
    batches = (encoder.batch(items[first : first + size]) for first in range(0, len(items), size))
    return [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]
