"""``SkipLayerNormalization(x, skip, gamma, beta, bias)`` normalises ``x + bias + skip``; output 3 is the sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aerogel.export.expansion import Expansion, input_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["EXPANSION"]


class SkipLayerNormalization(Expansion):
    """See the module's docstring."""

    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """See `Expansion.expand`."""
        x, skip, gamma, beta, bias = (input_of(node, index) for index in range(5))
        if bias is not None:
            x = build.op("Add", x, bias)
        total = build.op("Add", x, skip)
        epsilon = node.attributes.get_float("epsilon", 1e-12)
        inputs = [total, gamma] if beta is None else [total, gamma, beta]
        return {0: build.op("LayerNormalization", *inputs, axis=-1, epsilon=epsilon), 3: total}


EXPANSION = SkipLayerNormalization()
