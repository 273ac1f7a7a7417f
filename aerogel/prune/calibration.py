"""Sentences that the moments are taken over, as batches of model inputs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aerogel.data.corpus.stream import Corpus, Place
from aerogel.errors import DataError

__all__ = ["make_batches", "sample_sentences", "unknown_rate"]

# Documents of the first block, from which the sentences are drawn.
_DOCUMENTS = 2000
# Shorter sentences are headings and stray lines.
_MIN_WORDS = 4
_BATCH_TOKENS = 4096


def sample_sentences(corpus: Corpus, count: int) -> list[str]:
    """Draw sentences from the first documents of a corpus; its seed decides which.

    Raises:
        DataError: the text has fewer than two sentences.
    """
    documents, _ = corpus.read(Place())
    found = dict.fromkeys(
        sentence
        for document in documents
        for sentence in document.sentences()
        if _words(sentence) >= _MIN_WORDS
    )
    if len(found) < 2:
        raise DataError(
            f"--text {corpus.files[0]}: only {len(found)} sentences of {_MIN_WORDS} words or more in the first "
            f"{len(documents)} documents; give more text"
        )
    sentences = list(found)
    return random.Random(corpus.seed).sample(sentences, min(count, len(sentences)))


def open_corpus(paths: Sequence[Path], seed: int) -> Corpus:
    """The text files, none of their documents held out."""
    return Corpus(paths, 0.0, _DOCUMENTS, seed)


def make_batches(
    sentences: Sequence[str], tokenizer: Any, names: Sequence[str], max_length: int
) -> list[dict[str, Tensor]]:
    """Tokenize sentences, and group those of similar length.

    Args:
        sentences: the texts.
        tokenizer: of the model.
        names: inputs that the model takes.
        max_length: tokens per sentence.

    Returns:
        Batches of int64 ``[rows, tokens]`` by input name, padded on the right.
    """
    encoded = tokenizer(list(sentences), truncation=True, max_length=max_length)
    rows = sorted(range(len(sentences)), key=lambda row: len(encoded["input_ids"][row]))
    batches, start = [], 0
    while start < len(rows):
        end = start + 1
        while end < len(rows) and len(encoded["input_ids"][rows[end]]) * (end + 1 - start) <= _BATCH_TOKENS:
            end += 1
        batches.append(_batch(encoded, rows[start:end], names, tokenizer.pad_token_id))
        start = end
    return batches


def unknown_rate(batches: Sequence[Mapping[str, Tensor]], tokenizer: Any) -> float:
    """Fraction of the real tokens that are the tokenizer's unknown token."""
    if tokenizer.unk_token_id is None:
        return 0.0
    unknown = sum(int((batch["input_ids"] == tokenizer.unk_token_id).sum()) for batch in batches)
    return unknown / max(1, sum(int(batch["attention_mask"].sum()) for batch in batches))


def _batch(
    encoded: Mapping[str, list[list[int]]], rows: list[int], names: Sequence[str], pad_id: int
) -> dict[str, Tensor]:
    longest = max(len(encoded["input_ids"][row]) for row in rows)

    def padded(name: str) -> Tensor:
        fill = pad_id if name == "input_ids" else 0
        values = [encoded[name][row] for row in rows]
        return torch.tensor([value + [fill] * (longest - len(value)) for value in values])

    return {name: padded(name) for name in names}


def _words(sentence: str) -> int:
    return len(sentence.split())
