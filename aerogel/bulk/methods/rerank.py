"""Score of each pair of a query and a text."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aerogel.bulk.method import Columns, Method, Options

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["BULK"]


class Rerank(Method):
    """Column ``score``: that of `aerogel.Model.rerank` for the pair, in the order of the rows."""

    columns = ("score",)
    texts = (2,)

    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:  # noqa: ARG002
        """See `Method.run`."""
        # A reranker has one label, whose score is that of the pair; rerank() takes one query only.
        return {"score": [labels[0].score for labels in model.classify(rows)]}

    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """See `Method.types`."""
        return {"score": arrow.float64()}


BULK = Rerank()
