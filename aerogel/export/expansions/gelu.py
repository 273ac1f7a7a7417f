"""``Gelu(x)``: by erf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aerogel.export.expansion import Expansion
from aerogel.export.expansions._gelu import gelu

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["EXPANSION"]


class Gelu(Expansion):
    """See the module's docstring."""

    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """See `Expansion.expand`."""
        return {0: gelu(build, node.inputs[0])}


EXPANSION = Gelu()
