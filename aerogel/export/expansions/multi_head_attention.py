"""``MultiHeadAttention(q, k, v, bias, mask, added)``: attention over heads of inputs ``[batch, sequence, width]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.expansion import Expansion, input_of
from aerogel.export.expansions._heads import FILTER, additive_mask, attend

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["EXPANSION"]


class MultiHeadAttention(Expansion):
    """See the module's docstring."""

    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """See `Expansion.expand`."""
        q, k, v, bias, mask, added = (input_of(node, index) for index in range(6))
        options = node.attributes
        heads = options.get_int("num_heads", 0)
        widths = [
            None if x is None or x.shape is None or len(x.shape) != 3 else x.shape[2] for x in (q, k, v)
        ]
        vector = bias.const_value if bias is not None else None
        if bias is not None and vector is not None:
            widths = [int(vector.size) // 3] * 3
        width = widths[0]
        if not isinstance(width, int) or widths != [width] * 3 or heads < 1 or width % heads:
            return None
        if (
            any(value is not None for value in node.inputs[6:])
            or options.get_int("unidirectional", 0) != 0
            or (bias is not None and vector is None)
        ):
            return None
        masks = []
        if mask is not None and k is not None:
            made = additive_mask(build, mask, k, options.get_float("mask_filter_value", FILTER))
            if made is None:
                return None
            masks.append(made)
        if added is not None:
            masks.append(added)
        parts = []
        for number, part in enumerate((q, k, v)):
            if part is None:
                return None
            if vector is not None:
                at = slice(number * width, (number + 1) * width)
                part = build.op("Add", part, build.constant(vector.numpy()[at], np.float32))
            parts.append(part)
        merged = attend(
            build, (parts[0], parts[1], parts[2]), heads, width, options.get_float("scale", 0.0), masks
        )
        return {0: merged}


EXPANSION = MultiHeadAttention()
