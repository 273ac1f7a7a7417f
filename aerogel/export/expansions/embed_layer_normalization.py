"""``EmbedLayerNormalization``: rows of up to three tables, added and normalised; output 1 counts the real tokens.

Inputs: ids, segments (optional), words, positions, segment table (optional), gamma, beta, mask (optional), position ids
(optional). Output 1, int32 ``[batch]``, is the sum of the mask, or zeros without one; output 2 is the sum of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.expansion import Expansion, input_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["EXPANSION"]

_INT32, _INT64 = 6, 7


class EmbedLayerNormalization(Expansion):
    """See the module's docstring."""

    def expand(self, node: ir.Node, build: Builder) -> Mapping[int, ir.Value] | None:
        """See `Expansion.expand`."""
        ids, segments, words, positions, segment_table, gamma, beta, mask, where = (
            input_of(node, index) for index in range(9)
        )
        if node.attributes.get_int("mask_index_type", 1) != 1:
            return None
        sequence = build.op("Shape", ids, start=1, end=2)
        if where is None:
            count = build.op("Squeeze", sequence, build.constant([0]))
            where = build.op("Range", build.constant(0), count, build.constant(1))
            where = build.op("Unsqueeze", where, build.constant([0]))
        total = build.op("Gather", words, ids, axis=0)
        if segments is not None and segment_table is not None:
            total = build.op("Add", total, build.op("Gather", segment_table, segments, axis=0))
        total = build.op("Add", total, build.op("Gather", positions, where, axis=0))
        epsilon = node.attributes.get_float("epsilon", 1e-12)
        y = build.op("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon)
        if mask is None:
            batch = build.op("Shape", ids, start=0, end=1)
            lengths = build.op("Expand", build.constant(0, np.int32), batch)
        else:
            wide = build.op("Cast", mask, to=_INT64)
            summed = build.op("ReduceSum", wide, build.constant([1]), keepdims=0)
            lengths = build.op("Cast", summed, to=_INT32)
        return {0: y, 1: lengths, 2: total}


EXPANSION = EmbedLayerNormalization()
