"""Labelled spans of texts."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aerogel.bulk.method import Columns, Method, Options

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["BULK"]


class Tag(Method):
    """Column ``spans``: label, score, text, start and end of each span."""

    columns = ("spans",)
    window = 256

    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:  # noqa: ARG002
        """See `Method.run`."""
        return {"spans": [[span._asdict() for span in spans] for spans in model.tag(rows)]}

    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """See `Method.types`."""
        fields = {
            "label": arrow.string(), "score": arrow.float64(), "text": arrow.string(),
            "start": arrow.int64(), "end": arrow.int64(),
        }  # fmt: skip
        return {"spans": arrow.list_(arrow.struct(fields))}


BULK = Tag()
