"""Classification of texts and pairs of texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from aerogel.model.batch import Batch, Call
from aerogel.model.heads._labels import Labelled, check_count
from aerogel.model.results import Label

__all__ = ["HEAD", "Classify"]


class Classify(Labelled):
    """Output float ``[batch, labels]``."""

    RANKS = (2,)

    def classify(
        self,
        texts: Iterable[Any],
        *,
        top_k: int | None = None,
        raw_scores: bool = False,
    ) -> Call:
        """See `aerogel.Model.classify`."""
        check_count("top_k", top_k)
        encoded = self._core.encode(texts, pairs=True)

        def finish(batches: Iterable[Batch]) -> list[list[Label]]:
            found: list[list[Label]] = [[]] * len(encoded)
            for batch in batches:
                for row, logits in batch.each():
                    scores = self._scores(logits, raw=raw_scores)
                    names = self._names(len(scores))
                    order = np.argsort(-scores, kind="stable")[:top_k]
                    found[row] = [Label(names[number], float(scores[number])) for number in order]
            return found

        return self._call(encoded, finish)


HEAD = Classify
