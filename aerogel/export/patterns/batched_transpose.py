"""A Transpose of the last two axes of four, written with the first two merged, as torch.onnx writes it for attention.

Reshape(Transpose(Reshape(x, [-1, s, d]), [0, 2, 1]), [b, h, d, s])   ->   Transpose(x, [0, 1, 3, 2])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.export.build import Builder, splice
from aerogel.export.dims import Dims
from aerogel.export.pattern import Pattern

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["PATTERN", "BatchedTranspose"]


class BatchedTranspose(Pattern):
    """See the module's docstring."""

    def apply(self, model: ir.Model) -> int:
        """See `Pattern.apply`."""
        dims = Dims(model.graph)
        changed = 0
        for node in list(model.graph):
            x = _source(node, dims)
            if x is not None:
                build = Builder()
                y = build.op("Transpose", x, perm=[0, 1, 3, 2])
                build.nodes[-1].name = node.name
                splice(model.graph, node, build.nodes, {node.outputs[0]: y})
                changed += 1
        return changed


def _source(last: ir.Node, dims: Dims) -> ir.Value | None:
    """The x whose last two axes end up exchanged in the output of the Reshape `last`."""
    transpose = _maker(last, "Reshape", "Transpose")
    first = _maker(transpose, "Transpose", "Reshape")
    if transpose is None or first is None or list(transpose.attributes.get_ints("perm", ())) != [0, 2, 1]:
        return None
    x = first.inputs[0]
    before, merged, after = (dims.of(value) for value in (x, first.outputs[0], last.outputs[0]))
    if before is None or merged is None or after is None or None in before or len(before) != 4:
        return None
    outer, sequence, features = before[:2], before[2], before[3]
    if merged[1:] != [sequence, features] or after != [*outer, features, sequence]:
        return None
    return x


def _maker(node: ir.Node | None, op_type: str, wanted: str) -> ir.Node | None:
    """The node that computes the first input of `node`, if both have these operator types."""
    if node is None or node.op_type != op_type or node.domain or node.inputs[0] is None:
        return None
    maker = node.inputs[0].producer()
    return maker if maker is not None and maker.op_type == wanted and not maker.domain else None


PATTERN = BatchedTranspose()
