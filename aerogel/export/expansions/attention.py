"""``Attention(x, weight, bias, mask, ...)``: one matrix ``[in, 3 width]`` for q, k and v, then attention over heads.

The matrix is split into three, so that each can be stored as its own density allows.
"""

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


class Attention(Expansion):
    """See the module's docstring."""

    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """See `Expansion.expand`."""
        x, weight, bias, mask, past, added, length = (input_of(node, index) for index in range(7))
        matrix, vector = (
            None if v is None or v.const_value is None else v.const_value for v in (weight, bias)
        )
        options = node.attributes
        heads = options.get_int("num_heads", 0)
        unknown = ("unidirectional", "do_rotary", "past_present_share_buffer")
        if x is None or matrix is None or past is not None or length is not None or heads < 1:
            return None
        if any(options.get_int(name, 0) for name in unknown) or "qkv_hidden_sizes" in options:
            return None
        columns = int(matrix.shape.numpy()[-1])
        if (vector is None and bias is not None) or len(matrix.shape) != 2 or columns % (3 * heads):
            return None
        width = columns // 3
        masks = []
        if mask is not None:
            made = additive_mask(build, mask, x, options.get_float("mask_filter_value", FILTER))
            if made is None:
                return None
            masks.append(made)
        if added is not None:
            masks.append(added)
        parts = []
        for number, part in enumerate(("query", "key", "value")):
            at = slice(number * width, (number + 1) * width)
            columns_of_part = np.ascontiguousarray(matrix.numpy()[:, at])
            y = build.op("MatMul", x, build.constant(columns_of_part, np.float32), name=f"{part}/MatMul")
            if vector is not None:
                y = build.op("Add", y, build.constant(vector.numpy()[at], np.float32), name=f"{part}/Add")
            parts.append(y)
        merged = attend(
            build, (parts[0], parts[1], parts[2]), heads, width, options.get_float("scale", 0.0), masks
        )
        return {0: merged}


EXPANSION = Attention()
