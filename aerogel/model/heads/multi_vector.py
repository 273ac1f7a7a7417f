"""Token vectors for late interaction, as in ColBERT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from aerogel.model.batch import Batch, Call
from aerogel.model.heads._vectors import encode_prompted
from aerogel.model.task import Task

__all__ = ["HEAD", "MultiVector"]


class MultiVector(Task):
    """Output float ``[batch, sequence, features]``."""

    RANKS = (3,)

    def embed_tokens(self, texts: Iterable[Any], *, prompt: str | None = None) -> Call:
        """See `aerogel.Model.embed_tokens`."""
        encoded = encode_prompted(self._core, self._head, texts, prompt)

        def finish(batches: Iterable[Batch]) -> list[np.ndarray]:
            found: list[np.ndarray] = [np.empty((0, 0), np.float32)] * len(encoded)
            for batch in batches:
                for row, array in batch.each_token():
                    # A view would keep the whole padded batch in memory.
                    found[row] = array.copy()
            return found

        return self._call(encoded, finish)


HEAD = MultiVector
