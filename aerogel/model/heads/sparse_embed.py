"""Sparse embeddings over the vocabulary, as in SPLADE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from aerogel.model.batch import Batch, Call
from aerogel.model.heads._vectors import encode_prompted
from aerogel.model.results import Sparse
from aerogel.model.task import Task

__all__ = ["HEAD", "SparseEmbed"]


class SparseEmbed(Task):
    """Output float ``[batch, vocabulary]``, or logits ``[batch, sequence, vocabulary]`` that are pooled here."""

    RANKS = (2, 3)

    def embed_sparse(self, texts: Iterable[Any], *, prompt: str | None = None) -> Call:
        """See `aerogel.Model.embed_sparse`."""
        encoded = encode_prompted(self._core, self._head, texts, prompt)

        def finish(batches: Iterable[Batch]) -> list[Sparse]:
            found: list[Any] = [None] * len(encoded)
            for batch in batches:
                logits = batch.arrays[0][0].ndim == 2
                for row, array in batch.each_token() if logits else batch.each():
                    weights = np.log1p(np.maximum(array, 0).max(axis=0, initial=0)) if logits else array
                    (indices,) = np.nonzero(weights > 0)
                    found[row] = Sparse(indices, weights[indices])
            return found

        return self._call(encoded, finish)


HEAD = SparseEmbed
