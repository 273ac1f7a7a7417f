"""``FusedMatMul(a, b)``: ``alpha op(a) op(b)``, where op may exchange the last two axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.expansion import Expansion

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["EXPANSION"]


class FusedMatMul(Expansion):
    """See the module's docstring."""

    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """See `Expansion.expand`."""
        if sum(node.attributes.get_int(name, 0) for name in ("transBatchA", "transBatchB")):
            return None
        sides = []
        for value, name in zip(node.inputs, ("transA", "transB"), strict=True):
            if value is not None and node.attributes.get_int(name, 0) != 0:
                if value.shape is None:
                    return None
                rank = len(value.shape)
                value = build.op("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])
            sides.append(value)
        product = build.op("MatMul", *sides)
        alpha = node.attributes.get_float("alpha", 1.0)
        return {0: product if alpha == 1 else build.op("Mul", product, build.constant(alpha, np.float32))}


EXPANSION = FusedMatMul()
