"""``FastGelu(x, bias)``: the GELU by tanh, of the sum where there is a bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aerogel.export.expansion import Expansion, input_of
from aerogel.export.expansions._gelu import gelu_tanh

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["EXPANSION"]


class FastGelu(Expansion):
    """See the module's docstring."""

    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """See `Expansion.expand`."""
        x, bias = node.inputs[0], input_of(node, 1)
        return {0: gelu_tanh(build, x if bias is None else build.op("Add", x, bias))}


EXPANSION = FastGelu()
