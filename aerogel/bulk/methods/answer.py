"""Answers to pairs of a question and a context."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aerogel.bulk.method import Columns, Method, Options
from aerogel.bulk.methods._rows import row_by_row

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["BULK"]


class Answer(Method):
    """Column ``answers``: score, text, start and end of each answer, best first."""

    columns = ("answers",)
    texts = (2,)
    options = ("top_k",)
    window = 64

    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:
        """See `Method.run`."""

        def answer(pair: tuple[str, str]) -> list[dict[str, Any]]:
            return [found._asdict() for found in model.answer(*pair, top_k=options.top_k or 1)]

        return {"answers": row_by_row(answer, rows, where)}

    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """See `Method.types`."""
        fields = {
            "score": arrow.float64(), "text": arrow.string(), "start": arrow.int64(), "end": arrow.int64(),
        }  # fmt: skip
        return {"answers": arrow.list_(arrow.struct(fields))}


BULK = Answer()
