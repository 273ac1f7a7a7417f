"""One score per text or pair: regression and reranking."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aerogel.errors import ArtifactError
from aerogel.model.batch import Batch, Call
from aerogel.model.heads._labels import check_count
from aerogel.model.heads.classify import Classify
from aerogel.model.results import Ranked
from aerogel.model.texts import check_text, check_texts

__all__ = ["HEAD", "Rerank"]


class Rerank(Classify):
    """Output float ``[batch, 1]``."""

    def rerank(
        self,
        query: str,
        texts: Iterable[Any],
        *,
        top_n: int | None = None,
        raw_scores: bool = False,
    ) -> Call:
        """See `aerogel.Model.rerank`."""
        check_count("top_n", top_n)
        check_text(query, "query")
        encoded = self._core.encode([(query, text) for text in check_texts(texts)], pairs=True)

        def finish(batches: Iterable[Batch]) -> list[Ranked]:
            found: list[Ranked] = []
            for batch in batches:
                for row, logits in batch.each():
                    if len(logits) != 1:
                        raise ArtifactError(
                            f"{self._core.path} returns {len(logits)} logits, but a rerank head needs one; "
                            "export the model again"
                        )
                    found.append(Ranked(row, float(self._scores(logits, raw=raw_scores)[0])))
            return sorted(found, key=lambda item: (-item.score, item.index))[:top_n]

        return self._call(encoded, finish)


HEAD = Rerank
