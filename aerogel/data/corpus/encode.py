"""Documents into the numbers that a model is pre-trained on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from aerogel.data.corpus.documents import Document
from aerogel.data.corpus.masking import mask_tokens
from aerogel.data.corpus.pairs import Row, Sentences, documents_to_rows
from aerogel.data.features import IGNORED
from aerogel.errors import UsageError

__all__ = ["FEWEST", "TextEncoder"]

# Sentences tokenised at once: enough to keep the tokenizer's threads busy, few enough for its records of them.
_AT_ONCE = 1000
FEWEST = 16
"""Tokens of the shortest document in use: one of fewer is a stub or a stray line."""


class TextEncoder:
    """Makes rows of documents, and masked inputs of rows.

    Args:
        tokenizer: of the model; a fast one.
        max_length: tokens per row, special ones included.
        pairs: rows of two segments, for next-sentence prediction.

    Raises:
        UsageError: the tokenizer has no mask token or does not tell its special tokens from the text, or `max_length`
            leaves no room for text.
    """

    def __init__(self, tokenizer: Any, max_length: int, *, pairs: bool) -> None:
        if not getattr(tokenizer, "is_fast", False) or tokenizer.mask_token_id is None:
            raise UsageError(
                f"--model: {type(tokenizer).__name__} has no mask token or is no fast tokenizer; give the model's own"
            )
        self.tokenizer, self.pairs = tokenizer, pairs
        probe = tokenizer(*["a"] * (1 + pairs))
        self._order = probe.sequence_ids(0)
        self._template = {name: probe[name] for name in tokenizer.model_input_names if name in probe}
        self.room = max_length - self._order.count(None)
        if self.room < FEWEST:
            raise UsageError(
                f"--max-length {max_length}: a row has {self._order.count(None)} special tokens and must have room for "
                f"{FEWEST} others"
            )
        self._special = np.array(sorted(set(tokenizer.all_special_ids)))
        self._vocabulary = np.setdiff1d(np.arange(len(tokenizer)), self._special)
        self._fill = {"input_ids": tokenizer.pad_token_id, "labels": IGNORED}
        self._fill["token_type_ids"] = tokenizer.pad_token_type_id

    def tokenise(self, documents: Sequence[Document]) -> list[list[list[int]]]:
        """Token ids by document and sentence; documents of fewer than 16 tokens are left out, empty sentences too."""
        sentences = [document.sentences() for document in documents]
        flat = list(itertools.chain.from_iterable(sentences))
        ids = (
            token
            for at in range(0, len(flat), _AT_ONCE)
            for token in self._tokenise(flat[at : at + _AT_ONCE])
        )
        tokenised = [[next(ids) for _ in document] for document in sentences]
        return [[s for s in document if s] for document in tokenised if sum(map(len, document)) >= FEWEST]

    def rows(self, documents: Sequence[Sentences], seed: str) -> list[Row]:
        """Rows of tokenised documents, in an order drawn from `seed`."""
        return documents_to_rows(documents, self.room, random.Random(seed), pairs=self.pairs)

    def batch(self, rows: Sequence[tuple[Row, np.random.Generator]]) -> dict[str, np.ndarray]:
        """Masked rows, each with what its masking is drawn from.

        Returns:
            Model inputs and `labels`, int64 ``[rows, longest]``, padded on the right; with pairs also
            `next_sentence_label` int64 ``[rows]``, 1 where segment B is of another document.
        """
        encoded = [self._encode(row, draw) for row, draw in rows]
        longest = max(len(row["input_ids"]) for row in encoded)
        result = {}
        for name in encoded[0]:
            result[name] = np.full((len(encoded), longest), self._fill.get(name, 0))
            for place, row in zip(result[name], encoded, strict=True):
                place[: len(row[name])] = row[name]
        if self.pairs:
            result["next_sentence_label"] = np.array([int(row.is_random) for row, _ in rows])
        return result

    def _tokenise(self, sentences: list[str]) -> list[list[int]]:
        # Special tokens that the text spells out are text.
        found = self.tokenizer(sentences, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return list(found["input_ids"])

    def _encode(self, row: Row, draw: np.random.Generator) -> dict[str, np.ndarray]:
        """One row with its special tokens, as the tokenizer puts them, masked."""
        segments = (row.first, row.second or [])
        # How often each entry of the template is there: a special token once, a segment's as often as it has tokens.
        counts = [1 if segment is None else len(segments[segment]) for segment in self._order]
        result = {name: np.repeat(values, counts) for name, values in self._template.items()}
        of = np.repeat([-1 if segment is None else segment for segment in self._order], counts)
        ids = result["input_ids"]
        for number, segment in enumerate(segments):
            ids[of == number] = segment
        ordinary = (of >= 0) & ~np.isin(ids, self._special)
        result["input_ids"], result["labels"] = mask_tokens(
            ids, ordinary, self.tokenizer.mask_token_id, self._vocabulary, draw
        )
        return result
