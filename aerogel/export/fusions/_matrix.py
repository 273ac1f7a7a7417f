"""A linear layer after the rewrite: a call that carries its packed matrix, or a MatMul of a dense one and an Add."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from aerogel.export.fusions._graph import Mismatch, maker, operand
from aerogel.export.linear import constant_shape, only_user
from aerogel.export.plan import DENSE
from aerogel.ops.functions import FUNCTIONS
from aerogel.ops.linear_function import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Matrix", "Slot", "check_vector", "matrix_of", "reader_of"]

Slot = tuple[str, "ir.Node", int]
"""A tensor: what it is called in its function, the node that reads it, and which input of that node it is."""


@dataclass(frozen=True)
class Matrix:
    """Nodes that together compute ``output = x W^T + bias``.

    Attributes:
        kind: how W is stored: "dense", or a format and how its values are stored ("csr", "bsr-int8").
        x: the input ``[..., in]``.
        output: the result ``[..., out]``.
        shape: (out, in).
        nodes: the nodes, first to last.
        tensors: W as it is stored, then the bias.
    """

    kind: str
    x: ir.Value
    output: ir.Value
    shape: tuple[int, int]
    nodes: tuple[ir.Node, ...]
    tensors: tuple[Slot, ...]


def matrix_of(output: ir.Value, reader: ir.Node) -> Matrix:
    """The linear layer that computes `output` for `reader`.

    Raises:
        Mismatch: it is none, or one of its tensors is no constant of the right shape.
    """
    node = output.producer()
    if node is not None and node.domain == DOMAIN:
        return _packed(node)
    add = maker(output, reader, "Add")
    product, bias = None, 0
    for index in (0, 1):
        made = operand(add, index).producer()
        if made is not None and made.op_type == "MatMul" and not made.domain:
            product, bias = made, 1 - index
    if product is None:
        raise Mismatch(add, "stands where a linear layer with its bias should be")
    shape = constant_shape(product.inputs[1])
    if shape is None or len(shape) != 2 or not _is_float32(product.inputs[1]):
        raise Mismatch(product, "multiplies by what is no float32 weight matrix")
    check_vector(add, bias, shape[1])
    if only_user(product.outputs[0]) is not add:
        raise Mismatch(product, "is read by something else than the Add of its bias")
    tensors = (("data", product, 1), ("bias", add, bias))
    return Matrix(DENSE, operand(product, 0), output, (shape[1], shape[0]), (product, add), tensors)


def reader_of(x: ir.Value, node: ir.Node | None) -> Matrix:
    """The linear layer of which `node`, a reader of `x`, is the multiplication.

    Raises:
        Mismatch: it is none.
    """
    made = x.producer()
    assert made is not None  # asked of results only
    if node is None:
        raise Mismatch(made, "gives a result that is not read by one linear layer alone")
    last = node
    if node.op_type == "MatMul" and not node.domain:
        following = only_user(node.outputs[0])
        if following is None:
            raise Mismatch(node, "gives a result that is not read by the Add of a bias alone")
        last = following
    matrix = matrix_of(last.outputs[0], last)
    if matrix.x is not x:
        raise Mismatch(node, f"does not multiply {x.name} by a weight matrix")
    return matrix


def check_vector(node: ir.Node, index: int, length: int) -> None:
    """Demand that an input of a node is a constant vector, float32, of `length` entries.

    Raises:
        Mismatch: it is not.
    """
    value = operand(node, index)
    if constant_shape(value) != (length,) or not _is_float32(value):
        raise Mismatch(node, f"has an input {index} that is not a float32 constant of {length} entries")


def _is_float32(value: ir.Value | None) -> bool:
    return value is not None and value.dtype is not None and value.dtype.name == "FLOAT"


def _packed(node: ir.Node) -> Matrix:
    known = _known()
    if node.op_type not in known:
        raise Mismatch(node, "is no linear layer that is known")
    kind, names = known[node.op_type]
    for index in range(1, len(node.inputs)):
        if constant_shape(operand(node, index)) is None:
            raise Mismatch(node, f"has an input {index} that is no constant")
    last = len(node.inputs) - 1
    bias = constant_shape(node.inputs[last])
    if len(names) != last or bias is None or len(bias) != 1:
        raise Mismatch(node, "has not the inputs of its function")
    check_vector(node, last, bias[0])
    shape = (bias[0], node.attributes["in_features"].as_int())
    tensors = tuple((name, node, index) for index, name in enumerate(names, 1))
    return Matrix(kind, operand(node, 0), node.outputs[0], shape, (node,), tensors)


@cache
def _known() -> dict[str, tuple[str, tuple[str, ...]]]:
    """By operator: how it stores a matrix, which its file's name says, and its tensors."""
    functions = {name: FUNCTIONS.get(name) for name in FUNCTIONS.names()}
    return {
        function.name: (name.replace("-linear", ""), (*function.arrays, "bias"))
        for name, function in functions.items()
    }
