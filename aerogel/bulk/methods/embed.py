"""One vector per text."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aerogel.bulk.method import Columns, Method, Options

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["BULK"]


class Embed(Method):
    """Column ``embedding``: float32 vectors."""

    columns = ("embedding",)
    options = ("prompt", "dimensions")
    vector = "embedding"

    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:  # noqa: ARG002
        """See `Method.run`."""
        return {"embedding": model.embed(rows, prompt=options.prompt, dimensions=options.dimensions)}

    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """See `Method.types`."""
        return {"embedding": arrow.list_(arrow.float32())}


BULK = Embed()
