"""One sparse vector per text."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aerogel.bulk.method import Columns, Method, Options

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["BULK"]


class EmbedSparse(Method):
    """Columns ``indices``, token ids, and ``values``, float32 weights."""

    columns = ("indices", "values")
    options = ("prompt",)
    window = 256

    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:  # noqa: ARG002
        """See `Method.run`."""
        found = model.embed_sparse(rows, prompt=options.prompt)
        return {"indices": [item.indices for item in found], "values": [item.values for item in found]}

    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """See `Method.types`."""
        return {"indices": arrow.list_(arrow.int64()), "values": arrow.list_(arrow.float32())}


BULK = EmbedSparse()
