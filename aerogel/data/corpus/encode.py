"""Turn documents into model inputs for pre-training."""

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

__all__ = ["MIN_TOKENS", "TextEncoder"]

# Sentences per call of the tokenizer: enough to keep its threads busy, few enough to limit its memory.
_CHUNK = 1000
MIN_TOKENS = 16
"""Tokens of the shortest document in use. Shorter ones are stubs or stray lines."""


class TextEncoder:
    """Build rows from documents, and masked inputs from rows.

    Args:
        tokenizer: fast tokenizer of the model.
        max_length: tokens per row, including special tokens.
        pairs: make rows of two segments, for next-sentence prediction.

    Raises:
        UsageError: the tokenizer has no mask token or is not a fast one, or `max_length` leaves no room for text.
    """

    def __init__(self, tokenizer: Any, max_length: int, *, pairs: bool) -> None:
        if not getattr(tokenizer, "is_fast", False) or tokenizer.mask_token_id is None:
            raise UsageError(
                f"--model: {type(tokenizer).__name__} has no mask token or is not a fast tokenizer; "
                "use the model's own tokenizer"
            )
        self.tokenizer, self.pairs = tokenizer, pairs
        probe = tokenizer(*["a"] * (1 + pairs))
        self._order = probe.sequence_ids(0)
        self._template = {name: probe[name] for name in tokenizer.model_input_names if name in probe}
        self.room = max_length - self._order.count(None)
        if self.room < MIN_TOKENS:
            special = self._order.count(None)
            raise UsageError(
                f"--max-length {max_length}: must be at least {special + MIN_TOKENS} "
                f"({special} special tokens and {MIN_TOKENS} of text)"
            )
        self._special = np.array(sorted(set(tokenizer.all_special_ids)))
        self._vocabulary = np.setdiff1d(np.arange(len(tokenizer)), self._special)
        self._fill = {"input_ids": tokenizer.pad_token_id, "labels": IGNORED}
        self._fill["token_type_ids"] = tokenizer.pad_token_type_id

    def tokenise(self, documents: Sequence[Document]) -> list[list[list[int]]]:
        """Tokenise documents; skip empty sentences and documents of fewer than 16 tokens.

        Returns:
            Token ids by document and sentence.
        """
        sentences = [document.sentences() for document in documents]
        flat = list(itertools.chain.from_iterable(sentences))
        ids = (
            token
            for start in range(0, len(flat), _CHUNK)
            for token in self._tokenise(flat[start : start + _CHUNK])
        )
        tokenised = [[next(ids) for _ in document] for document in sentences]
        return [[s for s in document if s] for document in tokenised if sum(map(len, document)) >= MIN_TOKENS]

    def rows(self, documents: Sequence[Sentences], seed: str) -> list[Row]:
        """Build rows from tokenised documents and shuffle them with `seed`."""
        return documents_to_rows(documents, self.room, random.Random(seed), pairs=self.pairs)

    def batch(self, rows: Sequence[tuple[Row, np.random.Generator]]) -> dict[str, np.ndarray]:
        """Mask rows and pad them to one batch.

        Args:
            rows: (row, random generator that decides its masking).

        Returns:
            Model inputs and `labels`, int64 ``[rows, longest]``, padded on the right. With pairs also
            `next_sentence_label`, int64 ``[rows]``: 1 where segment B is from another document.
        """
        encoded = [self._encode(row, generator) for row, generator in rows]
        longest = max(len(row["input_ids"]) for row in encoded)
        result = {}
        for name in encoded[0]:
            result[name] = np.full((len(encoded), longest), self._fill.get(name, 0))
            for padded, row in zip(result[name], encoded, strict=True):
                padded[: len(row[name])] = row[name]
        if self.pairs:
            result["next_sentence_label"] = np.array([int(row.is_random) for row, _ in rows])
        return result

    def _tokenise(self, sentences: list[str]) -> list[list[int]]:
        # A special token spelled out in the text, such as "[SEP]", is tokenised as text.
        found = self.tokenizer(sentences, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return list(found["input_ids"])

    def _encode(self, row: Row, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Add the tokenizer's special tokens to one row, and mask it."""
        segments = (row.first, row.second or [])
        # Repeat each entry of the template: a special token once, a segment's entry once for each of its tokens.
        counts = [1 if segment is None else len(segments[segment]) for segment in self._order]
        result = {name: np.repeat(values, counts) for name, values in self._template.items()}
        owner = np.repeat([-1 if segment is None else segment for segment in self._order], counts)
        ids = result["input_ids"]
        for number, segment in enumerate(segments):
            ids[owner == number] = segment
        ordinary = (owner >= 0) & ~np.isin(ids, self._special)
        result["input_ids"], result["labels"] = mask_tokens(
            ids, ordinary, self.tokenizer.mask_token_id, self._vocabulary, generator
        )
        return result
