"""``Encoder_v1``: consecutive layers as one model-local function, whose body is a copy of the replaced nodes.

    y = Encoder_v1(hidden, mask, tensors...)

hidden, y: float32 ``[batch, sequence, hidden]``; mask: int64 ``[batch, sequence]``, not 0 where a token is real.
y is zero at padding tokens, which a kernel skips; the body ends in a product with the mask. If the model reads only
each sequence's first token, as sentence classifiers do, attribute tokens is "first" instead of "all" and y is
``[batch, 1, hidden]``; a kernel then skips most of the last layer.

The body has its own nodes for the additive mask and the target shapes of reshapes, because a function can only read its
inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.export.fusions._graph import operand
from aerogel.export.fusions._layer import Layer
from aerogel.ops.linear_function import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NAME", "encoder_call", "encoder_function", "reads_first_token_only"]

NAME = "Encoder_v1"

_FLOAT, _BOOL = 1, 9
_LOWEST = np.finfo(np.float32).min
_ATTRIBUTES = ("heads", "epsilon", "activation", "matrices", "tokens")


def reads_first_token_only(y: ir.Value) -> bool:
    """Whether the graph reads only position 0 of the sequence of `y` ``[batch, sequence, hidden]``."""
    return not y.is_graph_output() and all(_takes_first(use.node, use.idx) for use in y.uses())


def _takes_first(node: ir.Node, index: int) -> bool:
    """Whether input `index` of a node is read only at position 0 of axis 1."""
    if node.op_type != "Gather" or index != 0 or node.attributes.get_int("axis", 0) != 1:
        return False
    positions = node.inputs[1].const_value if node.inputs[1] is not None else None
    return positions is not None and not np.any(positions.numpy())


def encoder_call(layers: Sequence[Layer], *, first_token_only: bool) -> ir.Node:
    """The node that replaces `layers`; it is not in a graph yet."""
    import onnx_ir as ir

    first, last = layers[0], layers[-1]
    node = ir.node(
        NAME,
        [
            first.attention.x,
            first.attention.mask,
            *(operand(node, index) for layer in layers for _, node, index in layer.tensors),
        ],
        {
            "heads": first.attention.heads,
            "epsilon": first.epsilon,
            "activation": first.activation,
            "matrices": " ".join(matrix.storage for layer in layers for matrix in layer.matrices),
            "tokens": "first" if first_token_only else "all",
        },
        domain=DOMAIN,
        name="encoder",
    )
    shape = last.y.shape
    if first_token_only and shape is not None:
        shape = ir.Shape([shape[0], 1, shape[2]])
    node.outputs[0].type, node.outputs[0].shape = last.y.type, shape
    return node


def encoder_function(layers: Sequence[Layer], graph: ir.Graph, *, first_token_only: bool) -> ir.Function:
    """The function that `encoder_call(layers)` calls; `graph`, which contains the layers, does not change."""
    import onnx_ir as ir

    body = _Body()
    hidden, mask = ir.Value(name="hidden"), ir.Value(name="mask")
    batch = body.add("Shape", [hidden], {"start": 0, "end": 1})
    sequence = body.add("Shape", [hidden], {"start": 1, "end": 2})
    real = body.add("Cast", [body.add("Cast", [mask], {"to": _BOOL})], {"to": _FLOAT})
    inverted = body.add("Sub", [body.constant(np.float32(1)), real])
    lowered = body.add("Mul", [inverted, body.constant(_LOWEST)])
    additive = body.add("Unsqueeze", [lowered, body.constant(np.array([1, 2]))])
    width = layers[0].matrices[0].shape[0]
    dims = np.array([layers[0].attention.heads, width // layers[0].attention.heads])
    split = body.add("Concat", [batch, sequence, body.constant(dims)], {"axis": 0})
    merged = body.add("Concat", [batch, sequence, body.constant(np.array([width]))], {"axis": 0})

    values: dict[ir.Value, ir.Value] = {layers[0].attention.x: hidden}
    formal: list[ir.Value] = []
    operands: dict[tuple[ir.Node, int], ir.Value] = {}
    for number, layer in enumerate(layers):
        for name, node, index in layer.tensors:
            formal.append(ir.Value(name=f"layer{number}_{name}"))
            operands[node, index] = formal[-1]
        operands |= {layer.attention.mask_add: additive, (layer.attention.merge, 1): merged}
        operands |= {(reshape, 1): split for reshape in layer.attention.splits}
    inside = {node for layer in layers for node in layer.nodes}
    for node in graph:
        if node in inside:
            body.copy(node, values, operands)
    kept = body.add("Unsqueeze", [real, body.constant(np.array([2]))])
    y = body.add("Mul", [values[layers[-1].y], kept])
    if first_token_only:
        zero, one = (body.constant(np.array([number])) for number in (0, 1))
        y = body.add("Slice", [y, zero, one, one])
    y.name = "y"
    opsets = {"": graph.opset_imports[""], DOMAIN: 1}
    return ir.Function(
        DOMAIN,
        NAME,
        graph=ir.Graph([hidden, mask, *formal], [y], nodes=body.nodes, opset_imports=opsets),
        # Names without values; the call gives the values.
        attributes=[ir.Attr(name, ir.AttributeType.UNDEFINED, None) for name in _ATTRIBUTES],
    )


class _Body:
    """Builds the nodes of a function in order."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self._constants: dict[tuple[Any, ...], ir.Value] = {}

    def add(
        self, op_type: str, inputs: Sequence[ir.Value], attributes: Mapping[str, int] | None = None
    ) -> ir.Value:
        """Add a node with one output; returns the output."""
        import onnx_ir as ir

        self.nodes.append(ir.node(op_type, inputs, attributes))
        return self.nodes[-1].outputs[0]

    def constant(self, array: np.ndarray | np.generic) -> ir.Value:
        """Output of a Constant node with `array`; equal arrays share a node."""
        import onnx_ir as ir

        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self.nodes.append(ir.node("Constant", [], {"value": ir.tensor(array)}))
            self._constants[key] = self.nodes[-1].outputs[0]
        return self._constants[key]

    def copy(
        self,
        node: ir.Node,
        values: dict[ir.Value, ir.Value],
        operands: Mapping[tuple[ir.Node, int], ir.Value],
    ) -> None:
        """Add a copy of `node`.

        Args:
            node: a node of the graph.
            values: the function's value for each value of the graph that is copied; the outputs of `node` are added.
            operands: the function's value for single (node, input index) pairs. Any other input is a small constant.
        """
        import onnx_ir as ir

        inputs = []
        for index in range(len(node.inputs)):
            value = operand(node, index)
            constant = value.const_value
            if (node, index) in operands:
                inputs.append(operands[node, index])
            elif constant is not None:
                inputs.append(self.constant(constant.numpy()))
            else:
                inputs.append(values[value])
        copy = ir.Node(
            node.domain, node.op_type, inputs, list(node.attributes.values()),
            num_outputs=len(node.outputs), name=node.name,
        )  # fmt: skip
        self.nodes.append(copy)
        values.update(zip(node.outputs, copy.outputs, strict=True))
