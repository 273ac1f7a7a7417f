"""Token vectors of a plain encoder, with pooling to sentence embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from aerogel.errors import UsageError
from aerogel.model.batch import Batch, Call
from aerogel.model.heads._vectors import encode_prompted, gather, shorten, unit
from aerogel.model.heads.multi_vector import MultiVector
from aerogel.model.sentence import POOLINGS

__all__ = ["HEAD", "Tokens"]


class Tokens(MultiVector):
    """Output float ``[batch, sequence, features]``."""

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
        head, sentence = self._head, self._core.sentence
        pooling = pooling or self._default_pooling()
        if pooling not in POOLINGS:
            raise UsageError(f"pooling={pooling!r} is not known; known: {', '.join(POOLINGS)}")
        width = head.dimensions or self._core.outputs[head.output].width
        keep = shorten(dimensions, width)
        scale = normalize if normalize is not None else sentence is not None and sentence.normalized
        encoded = encode_prompted(self._core, head, texts, prompt)

        def vector(array: np.ndarray) -> np.ndarray:
            pooled = _pool(array, pooling)[:keep]
            return unit(pooled) if scale else pooled

        def finish(batches: Iterable[Batch]) -> np.ndarray:
            return gather(batches, len(encoded), vector, per_token=True, dimensions=keep or width)

        return self._call(encoded, finish)

    def _default_pooling(self) -> str:
        """The pooling in the model's folder; mean without one.

        Raises:
            UsageError: the pooling is not supported.
        """
        sentence = self._core.sentence
        if sentence is None:
            return "mean"
        if sentence.pooling is None or sentence.unknown:
            found = f"module {sentence.unknown}" if sentence.unknown else "pooling"
            raise UsageError(
                f"the {found} in the folder of {self._core.path} is not supported; "
                f"choose with pooling=: {', '.join(POOLINGS)}"
            )
        return sentence.pooling


def _pool(tokens: np.ndarray, pooling: str) -> np.ndarray:
    """Pool ``[tokens, features]`` to ``[features]``; zeros for a text without tokens."""
    pooled: np.ndarray
    if not len(tokens):
        pooled = np.zeros(tokens.shape[1], np.float32)
    elif pooling == "cls":
        pooled = tokens[0]
    elif pooling == "max":
        pooled = tokens.max(axis=0)
    else:
        pooled = tokens.sum(axis=0) / np.float32(len(tokens))
    return pooled


HEAD = Tokens
