"""Build nodes, and put them in the place of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Builder", "splice"]


class Builder:
    """Nodes of the standard domain, in order; they are not in a graph yet.

    Args:
        name: begins the name of every node; "" for no names.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.nodes: list[ir.Node] = []

    def op(self, op_type: str, *inputs: ir.Value | None, name: str = "", **attributes: Any) -> ir.Value:
        """Add a node with one output; returns the output. `name`, if given, ends its name instead of `op_type`."""
        import onnx_ir as ir

        label = f"{self.name}/{name or op_type}" if self.name else None
        self.nodes.append(ir.node(op_type, inputs, attributes, name=label))
        output = self.nodes[-1].outputs[0]
        output.type = _type(op_type, inputs, attributes)
        return output

    def constant(self, array: Any, dtype: Any = np.int64) -> ir.Value:
        """Add a Constant node with an array of `dtype`; returns its output."""
        import onnx_ir as ir

        tensor = ir.tensor(np.asarray(array, dtype))
        value = self.op("Constant", value=tensor)
        value.const_value, value.type, value.shape = (
            tensor,
            ir.TensorType(tensor.dtype),
            ir.Shape(tensor.shape.numpy()),
        )
        return value


def _type(
    op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any]
) -> ir.TypeProtocol | None:
    """Type of an output: that of the first input unless the operator says otherwise."""
    import onnx_ir as ir

    if op_type == "Cast":
        return ir.TensorType(ir.DataType(attributes["to"]))
    if op_type in ("Equal", "Less", "Not"):
        return ir.TensorType(ir.DataType.BOOL)
    if op_type == "Shape":
        return ir.TensorType(ir.DataType.INT64)
    return inputs[0].type if inputs and inputs[0] is not None else None


def splice(
    graph: ir.Graph, node: ir.Node, nodes: list[ir.Node], results: Mapping[ir.Value, ir.Value]
) -> None:
    """Put `nodes` before `node`, and let the readers of its outputs read other values. In place.

    Args:
        graph: the graph of `node`.
        node: it is removed where `results` has all of its outputs that are read.
        nodes: new nodes, first to last.
        results: the new value for each output of `node`; those that are computed by `nodes` get the name, type and
            shape of the output.
    """
    graph.insert_before(node, nodes)
    new = set(nodes)
    for output, result in results.items():
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        if result.producer() in new and result not in results:
            result.type, result.shape = output.type or result.type, output.shape or result.shape
            result.name, output.name = output.name, None
    if not any(output.uses() or output.is_graph_output() for output in node.outputs):
        graph.remove(node, safe=True)
