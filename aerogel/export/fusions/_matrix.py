"""Recognize a linear layer after the rewrite: a call with a packed matrix, or a MatMul and Add with a dense one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from aerogel.export.fusions._graph import Mismatch, operand, producer_of
from aerogel.export.linear import constant_shape, only_user
from aerogel.export.plan import DENSE
from aerogel.ops.functions import FUNCTIONS
from aerogel.ops.linear_function import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Matrix", "Tensor", "check_vector", "matrix_of", "reader_of"]

Tensor = tuple[str, "ir.Node", int]
"""A constant: its name in the function, the node that reads it, and the input index of that node."""


@dataclass(frozen=True)
class Matrix:
    """The nodes that compute ``output = x W^T + bias``.

    Attributes:
        storage: "dense", or storage format and value type of W, such as "csr" or "bsr-int8".
        x: the input ``[..., in]``.
        output: the result ``[..., out]``.
        shape: (out, in).
        nodes: the nodes, first to last.
        tensors: the stored arrays of W, then the bias.
    """

    storage: str
    x: ir.Value
    output: ir.Value
    shape: tuple[int, int]
    nodes: tuple[ir.Node, ...]
    tensors: tuple[Tensor, ...]


def matrix_of(output: ir.Value, reader: ir.Node) -> Matrix:
    """The linear layer that computes `output` for `reader`.

    Raises:
        Mismatch: the nodes are not a linear layer, or one of its tensors is not a constant of the right shape.
    """
    node = output.producer()
    if node is not None and node.domain == DOMAIN:
        return _packed(node)
    add = producer_of(output, reader, "Add")
    product, bias = None, 0
    for index in (0, 1):
        producer = operand(add, index).producer()
        if producer is not None and producer.op_type == "MatMul" and not producer.domain:
            product, bias = producer, 1 - index
    if product is None:
        raise Mismatch(add, "is found where a linear layer with a bias is expected")
    shape = constant_shape(product.inputs[1])
    if shape is None or len(shape) != 2 or not _is_float32(product.inputs[1]):
        raise Mismatch(product, "multiplies by a value that is not a float32 weight matrix")
    check_vector(add, bias, shape[1])
    if only_user(product.outputs[0]) is not add:
        raise Mismatch(product, "is read by another node than the Add of its bias")
    tensors = (("data", product, 1), ("bias", add, bias))
    return Matrix(DENSE, operand(product, 0), output, (shape[1], shape[0]), (product, add), tensors)


def reader_of(x: ir.Value, node: ir.Node | None) -> Matrix:
    """The linear layer whose product is `node`, a reader of `x`.

    Raises:
        Mismatch: `node` is not the product of a linear layer.
    """
    producer = x.producer()
    assert producer is not None  # callers pass results of nodes only
    if node is None:
        raise Mismatch(producer, "has a result that is not read by exactly one linear layer")
    last = node
    if node.op_type == "MatMul" and not node.domain:
        following = only_user(node.outputs[0])
        if following is None:
            raise Mismatch(node, "has a result that is not read by exactly one Add of a bias")
        last = following
    matrix = matrix_of(last.outputs[0], last)
    if matrix.x is not x:
        raise Mismatch(node, f"does not multiply {x.name} by a weight matrix")
    return matrix


def check_vector(node: ir.Node, index: int, length: int) -> None:
    """Check that an input of a node is a constant float32 vector of `length` entries.

    Raises:
        Mismatch: the input is anything else.
    """
    value = operand(node, index)
    if constant_shape(value) != (length,) or not _is_float32(value):
        raise Mismatch(node, f"has an input {index} that is not a float32 constant of {length} entries")


def _is_float32(value: ir.Value | None) -> bool:
    return value is not None and value.dtype is not None and value.dtype.name == "FLOAT"


def _packed(node: ir.Node) -> Matrix:
    """The linear layer of a call with a packed matrix."""
    known = _known()
    if node.op_type not in known:
        raise Mismatch(node, "is not a known linear layer")
    storage, names = known[node.op_type]
    for index in range(1, len(node.inputs)):
        if constant_shape(operand(node, index)) is None:
            raise Mismatch(node, f"has an input {index} that is not a constant")
    last = len(node.inputs) - 1
    bias = constant_shape(node.inputs[last])
    if len(names) != last or bias is None or len(bias) != 1:
        raise Mismatch(node, "does not have the inputs of its function")
    check_vector(node, last, bias[0])
    shape = (bias[0], node.attributes["in_features"].as_int())
    tensors = tuple((name, node, index) for index, name in enumerate(names, 1))
    return Matrix(storage, operand(node, 0), node.outputs[0], shape, (node,), tensors)


@cache
def _known() -> dict[str, tuple[str, tuple[str, ...]]]:
    """By operator type: storage of the matrix, from the function's file name, and names of the tensors."""
    functions = {name: FUNCTIONS.get(name) for name in FUNCTIONS.names()}
    return {
        function.name: (name.replace("-linear", ""), (*function.arrays, "bias"))
        for name, function in functions.items()
    }
