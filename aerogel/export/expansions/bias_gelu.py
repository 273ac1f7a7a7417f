"""``BiasGelu(x, bias)``: the GELU, by erf, of the sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aerogel.export.expansion import Expansion
from aerogel.export.expansions._gelu import gelu

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["EXPANSION"]


class BiasGelu(Expansion):
    """See the module's docstring."""

    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """See `Expansion.expand`."""
        return {0: gelu(build, build.op("Add", node.inputs[0], node.inputs[1]))}


EXPANSION = BiasGelu()
