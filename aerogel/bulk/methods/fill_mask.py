"""Tokens for the mask of each text."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aerogel.bulk.method import Columns, Method, Options
from aerogel.bulk.methods._rows import row_by_row

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["BULK"]


class FillMask(Method):
    """Column ``tokens``: token, token_id, score and sequence of each candidate, best first."""

    columns = ("tokens",)
    options = ("top_k",)
    window = 64

    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:
        """See `Method.run`."""

        def fill(text: str) -> list[dict[str, Any]]:
            return [found._asdict() for found in model.fill_mask(text, top_k=options.top_k or 5)]

        return {"tokens": row_by_row(fill, rows, where)}

    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """See `Method.types`."""
        fields = {
            "token": arrow.string(), "token_id": arrow.int64(), "score": arrow.float64(), "sequence": arrow.string(),
        }  # fmt: skip
        return {"tokens": arrow.list_(arrow.struct(fields))}


BULK = FillMask()
