"""Attention over heads in standard operators, as ONNX Runtime's operators define it.

softmax(scale Q K^T + mask + bias) V        per head; scale is 1 / sqrt(d) where none is given
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.build import Builder

__all__ = ["additive_mask", "attend"]

_FLOAT, _INT64 = 1, 7
FILTER = -10000.0
"""What ONNX Runtime adds to the scores of masked keys unless the node says otherwise."""


def attend(
    build: Builder,
    parts: tuple[ir.Value, ir.Value, ir.Value],
    heads: int,
    width: int,
    scale: float,
    masks: list[ir.Value],
) -> ir.Value:
    """Merged heads, float32 ``[batch, sequence, width]``.

    Args:
        build: takes the nodes.
        parts: Q, K and V, each float32 ``[batch, sequence, width]``.
        heads: number of heads.
        width: features of each part.
        scale: factor of the scores; 0 for 1 / sqrt(width / heads).
        masks: what is added to the scores ``[batch, heads, sequence, sequence]``.
    """
    shape = build.constant([0, 0, heads, width // heads])
    orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    q, k, v = (
        build.op("Transpose", build.op("Reshape", part, shape), perm=order)
        for part, order in zip(parts, orders, strict=True)
    )
    factor = build.constant(scale or 1 / math.sqrt(width // heads), np.float32)
    scores = build.op("Mul", build.op("MatMul", q, k), factor)
    for mask in masks:
        scores = build.op("Add", scores, mask)
    mixed = build.op("MatMul", build.op("Softmax", scores, axis=-1), v)
    merged = build.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return build.op("Reshape", merged, build.constant([0, 0, width]))


def additive_mask(build: Builder, mask: ir.Value, x: ir.Value, lowest: float) -> ir.Value | None:
    """What a mask adds to the scores: 0 at real keys, `lowest` at others. None for a form that is not known.

    Args:
        build: takes the nodes.
        mask: int32 ``[batch, keys]``, not 0 at real keys; or ``[batch]``, the number of real keys, which come first.
        x: a value ``[batch, keys, ...]``.
        lowest: what is added to the scores of other keys.
    """
    rank = len(mask.shape) if mask.shape is not None else 0
    if rank == 2:
        wide = build.op("Unsqueeze", mask, build.constant([1, 2]))
        masked = build.op("Equal", build.op("Cast", wide, to=_INT64), build.constant(0))
    elif rank == 1:
        count = build.op("Squeeze", build.op("Shape", x, start=1, end=2), build.constant([0]))
        keys = build.op("Range", build.constant(0), count, build.constant(1))
        lengths = build.op("Unsqueeze", build.op("Cast", mask, to=_INT64), build.constant([1, 2, 3]))
        masked = build.op("Not", build.op("Less", keys, lengths))
    else:
        return None
    return build.op("Mul", build.op("Cast", masked, to=_FLOAT), build.constant(lowest, np.float32))
