"""Labels of texts or pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aerogel.bulk.method import Columns, Method, Options

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["BULK"]


class Classify(Method):
    """Columns ``label`` and ``score``, the best label, and ``labels``, all or the first `top_k` with their scores."""

    columns = ("label", "score", "labels")
    texts = (1, 2)
    options = ("top_k",)

    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:  # noqa: ARG002
        """See `Method.run`."""
        found = model.classify(rows, top_k=options.top_k)
        return {
            "label": [labels[0].label for labels in found],
            "score": [labels[0].score for labels in found],
            "labels": [[label._asdict() for label in labels] for labels in found],
        }

    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """See `Method.types`."""
        label = {"label": arrow.string(), "score": arrow.float64()}
        return {**label, "labels": arrow.list_(arrow.struct(label))}


BULK = Classify()
