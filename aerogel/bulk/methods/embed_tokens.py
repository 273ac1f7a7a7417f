"""One vector per token of a text."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aerogel.bulk.method import Columns, Method, Options

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["BULK"]


class EmbedTokens(Method):
    """Column ``vectors``: a list of float32 vectors per row."""

    columns = ("vectors",)
    options = ("prompt",)
    # 128 texts of 512 tokens and 1024 features are 256 MiB.
    window = 128

    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:  # noqa: ARG002
        """See `Method.run`."""
        return {"vectors": model.embed_tokens(rows, prompt=options.prompt)}

    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """See `Method.types`."""
        return {"vectors": arrow.list_(arrow.list_(arrow.float32()))}


BULK = EmbedTokens()
