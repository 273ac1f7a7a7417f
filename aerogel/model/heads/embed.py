"""Sentence embeddings that the model pools itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from aerogel.errors import UsageError
from aerogel.model.batch import Batch, Call
from aerogel.model.heads._vectors import encode_prompted, gather, shorten, unit
from aerogel.model.task import Task

__all__ = ["HEAD", "Embed"]


class Embed(Task):
    """Output float ``[batch, features]``."""

    RANKS = (2,)

    def embed(
        self,
        texts: Iterable[Any],
        *,
        prompt: str | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        pooling: str | None = None,
    ) -> Call:
        """See `aerogel.Model.embed`."""
        head = self._head
        if pooling is not None:
            raise UsageError(f"pooling={pooling!r}: the model pools its tokens itself; omit pooling")
        if normalize is False and head.normalized:
            raise UsageError("normalize=False: the model normalizes its vectors itself; omit normalize")
        width = head.dimensions or self._core.outputs[head.output].width
        keep = shorten(dimensions, width)
        sentence = self._core.sentence
        normalized = head.normalized or (sentence is not None and sentence.normalized)
        scale = normalized if normalize is None else normalize
        # Normalized vectors need scaling only after features are dropped.
        scale = scale and not (head.normalized and keep is None)
        encoded = encode_prompted(self._core, head, texts, prompt)

        def vector(array: np.ndarray) -> np.ndarray:
            return unit(array[:keep]) if scale else array[:keep]

        def finish(batches: Iterable[Batch]) -> np.ndarray:
            return gather(batches, len(encoded), vector, per_token=False, dimensions=keep or width)

        return self._call(encoded, finish)


HEAD = Embed
