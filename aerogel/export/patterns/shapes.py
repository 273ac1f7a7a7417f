"""Target shapes of Reshape that are computed from Shape nodes, as constants where the dimensions are known.

    Reshape(x, Concat(Shape(x)[0:1], Shape(x)[1:2], -1, 16))   ->   Reshape(x, [0, 0, 2, 16])

0 copies a dimension of x. A Reshape to the shape that x has already goes. So do the nodes around a Softmax of the last
axis that come from converting it from an operator set below 13. All dimensions that are found are stated in the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.export.build import Builder, splice
from aerogel.export.dims import Dim, Dims
from aerogel.export.pattern import Pattern

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["PATTERN", "Shapes"]


class Shapes(Pattern):
    """See the module's docstring."""

    def apply(self, model: ir.Model) -> int:
        """See `Pattern.apply`."""
        dims = Dims(model.graph)
        dims.write()
        changed = 0
        for node in list(model.graph):
            if node.op_type == "Reshape" and not node.domain and None not in node.inputs:
                changed += _unfold_softmax(node, dims) or _drop(node, dims) or _fix(node, dims, model.graph)
        return changed


def _unfold_softmax(reshape: ir.Node, dims: Dims) -> bool:
    """``Reshape(Softmax(Flatten(x)), Shape(x))`` as ``Softmax(x)`` over the last axis of x."""
    softmax = reshape.inputs[0].producer()  # type: ignore[union-attr]
    flatten = softmax.inputs[0].producer() if softmax is not None and softmax.op_type == "Softmax" else None  # type: ignore[union-attr]
    if softmax is None or flatten is None or flatten.op_type not in ("Flatten", "Reshape"):
        return False
    x = flatten.inputs[0]
    before, rows = dims.of(x), dims.of(softmax.inputs[0])
    if before is None or rows is None or None in before or dims.of(reshape.outputs[0]) != before:
        return False
    last = before[-1] == rows[-1] or flatten.attributes.get_int("axis", 1) == len(before) - 1
    if len(rows) != 2 or not last or softmax.attributes.get_int("axis", -1) not in (-1, 1):
        return False
    build = Builder()
    y = build.op("Softmax", x, axis=-1)
    build.nodes[-1].name = softmax.name
    splice(reshape.graph, reshape, build.nodes, {reshape.outputs[0]: y})  # type: ignore[arg-type]
    return True


def _drop(reshape: ir.Node, dims: Dims) -> bool:
    """Let readers of a Reshape to the same shape read its input."""
    x, y = reshape.inputs[0], reshape.outputs[0]
    before = dims.of(x)
    if x is None or before is None or None in before or dims.of(y) != before or y.is_graph_output():
        return False
    y.replace_all_uses_with(x)
    return True


def _fix(reshape: ir.Node, dims: Dims, graph: ir.Graph) -> bool:
    """Make the target of a Reshape constant."""
    if reshape.inputs[1].const_value is not None:  # type: ignore[union-attr]
        return False
    target = _target(dims.of(reshape.inputs[0]), dims.of(reshape.outputs[0]))
    if target is None:
        return False
    build = Builder()
    constant = build.constant(target)
    graph.insert_before(reshape, build.nodes)
    reshape.replace_input_with(1, constant)
    reshape.attributes.pop("allowzero", None)
    return True


def _target(before: list[Dim] | None, after: list[Dim] | None) -> list[int] | None:
    """The target of a Reshape between two shapes: 0 copies a dimension, -1 is inferred; None if undetermined."""
    if before is None or after is None:
        return None
    target = []
    for axis, size in enumerate(after):
        if isinstance(size, int) and size > 0:
            target.append(size)
        elif size is not None and axis < len(before) and before[axis] == size:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None


PATTERN = Shapes()
