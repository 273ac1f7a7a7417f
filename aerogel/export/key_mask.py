"""The additive mask of attention in the form that the fusions read, and the masks that it may be made of.

    (1 - float(mask[:, None, None, :])) * lowest

`mask` is int64 ``[batch, sequence]``: the model's ``attention_mask``; or, where a model only counts its real tokens, 1
for the first so many tokens of each text. ONNX Runtime's optimizer writes models that count. For texts that are padded
on the right both are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.build import Builder

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["LOWEST", "NAME", "additive", "counted", "given", "is_mask"]

NAME = "attention_mask"
LOWEST = float(np.finfo(np.float32).min)

_FLOAT, _INT64 = 1, 7


def given(build: Builder, mask: ir.Value) -> ir.Value:
    """The mask of the model's input, as int64."""
    import onnx_ir as ir

    return mask if mask.dtype == ir.DataType.INT64 else build.op("Cast", mask, to=_INT64)


def counted(build: Builder, mask: ir.Value) -> ir.Value:
    """1 for the first n tokens of each text, where n is the number of real tokens; int64 ``[batch, sequence]``."""
    total = build.op("ReduceSum", given(build, mask), build.constant([1]), keepdims=1)
    size = build.op("Squeeze", build.op("Shape", mask, start=1, end=2), build.constant([0]))
    keys = build.op("Range", build.constant(0), size, build.constant(1))
    return build.op("Cast", build.op("Less", keys, total), to=_INT64)


def additive(build: Builder, mask: ir.Value) -> ir.Value:
    """What `mask` adds to the scores: float32 ``[batch, 1, 1, sequence]``."""
    real = build.op("Cast", build.op("Unsqueeze", mask, build.constant([1, 2])), to=_FLOAT)
    return build.op(
        "Mul",
        build.op("Sub", build.constant(1, np.float32), real),
        build.constant(LOWEST, np.float32),
    )


def is_mask(value: ir.Value) -> bool:
    """Whether a value is one that `given` or `counted` makes of the model's input."""
    if value.is_graph_input():
        return value.name == NAME
    cast = value.producer()
    if cast is None or cast.op_type != "Cast" or cast.attributes.get_int("to", 0) != _INT64:
        return False
    source = cast.inputs[0]
    if source is not None and source.is_graph_input():
        return source.name == NAME
    return _counts(source)


def _counts(value: ir.Value | None) -> bool:
    """Whether a value is the comparison that `counted` ends in."""
    less = _made(value, "Less")
    if less is None:
        return False
    keys, total = _made(less.inputs[0], "Range"), _made(less.inputs[1], "ReduceSum")
    if keys is None or total is None or total.inputs[0] is None:
        return False
    constants = (keys.inputs[0], keys.inputs[2], total.inputs[1])
    numbers = [
        None if v is None or v.const_value is None else v.const_value.numpy().ravel().tolist()
        for v in constants
    ]
    return numbers == [[0], [1], [1]] and is_mask(total.inputs[0])


def _made(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type and not node.domain else None
