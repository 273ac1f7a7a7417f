"""Recognize a layer of a post-LayerNorm encoder from the Softmax of its attention.

x1 = LN1(x + attention(x) Wo^T + bo)
y  = LN2(x1 + W2 act(W1 x1 + b1) + b2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerogel.export.fusions._activation import activation
from aerogel.export.fusions._attention import Attention, match_attention
from aerogel.export.fusions._graph import Mismatch, other, user
from aerogel.export.fusions._matrix import Matrix, Tensor, check_vector, matrix_of, reader_of
from aerogel.export.linear import only_user

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Layer", "match_layer"]


@dataclass(frozen=True)
class Layer:
    """A layer that ``Encoder_v1`` can compute.

    Attributes:
        attention: its attention, with the layer's input x and mask.
        y: output ``[batch, sequence, hidden]``, the shape of x.
        matrices: linear layers q, k, v, o, ffn1 and ffn2.
        tensors: all constants, in the order of ``Encoder_v1``'s inputs.
        epsilon: epsilon of both LayerNormalizations.
        activation: name of the feed-forward activation.
        nodes: all nodes between x and y.
    """

    attention: Attention
    y: ir.Value
    matrices: tuple[Matrix, ...]
    tensors: tuple[Tensor, ...]
    epsilon: float
    activation: str
    nodes: frozenset[ir.Node]


def match_layer(softmax: ir.Node) -> Layer:
    """The layer whose attention contains `softmax`.

    Raises:
        Mismatch: the nodes compute anything else than `Layer` describes.
    """
    attention = match_attention(softmax)
    q, k, v = attention.matrices
    hidden = q.shape[1]
    merged = attention.merge.outputs[0]
    o = reader_of(merged, only_user(merged))
    sum1 = user(o.output, "Add")
    if other(sum1, o.output) is not attention.x:
        raise Mismatch(
            sum1, f"does not add {attention.x.name}, the input of attention, as a post-LayerNorm layer does"
        )
    norm1 = _norm(sum1, hidden)
    x1 = norm1.outputs[0]
    readers = [use.node for use in x1.uses()]
    sums = [node for node in readers if node.op_type == "Add" and not node.domain]
    if len(readers) != 2 or len(sums) != 1 or x1.is_graph_output():
        raise Mismatch(norm1, "is not read by exactly one linear layer and one residual Add")
    (sum2,) = sums
    ffn1 = reader_of(x1, next(node for node in readers if node is not sum2))
    ffn2 = matrix_of(other(sum2, x1), sum2)
    name, between = activation(ffn1.output, ffn2.x)
    norm2 = _norm(sum2, hidden)

    matrices = (q, k, v, o, ffn1, ffn2)
    inner = ffn1.shape[0]
    shapes = [(hidden, hidden)] * 4 + [(inner, hidden), (hidden, inner)]
    for matrix, (rows, columns) in zip(matrices, shapes, strict=True):
        if matrix.shape != (rows, columns):
            found = "x".join(map(str, matrix.shape))
            raise Mismatch(matrix.nodes[0], f"has a matrix of {found} where {rows}x{columns} is expected")
    epsilon, second = (norm.attributes.get_float("epsilon", 1e-5) for norm in (norm1, norm2))
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise Mismatch(norm1, f"has epsilon {epsilon:g}, which is negative or not finite")
    if epsilon != second:
        raise Mismatch(
            norm2, f"has epsilon {second:g}, but the layer's first LayerNormalization has {epsilon:g}"
        )

    nodes = [*attention.nodes, sum1, norm1, *between, sum2, norm2]
    nodes += [node for matrix in matrices for node in matrix.nodes]
    y = norm2.outputs[0]
    _check_closed(nodes, y)
    tensors = _tensors(matrices, norm1, norm2)
    return Layer(attention, y, matrices, tensors, epsilon, name, frozenset(nodes))


def _norm(add: ir.Node, hidden: int) -> ir.Node:
    """The LayerNormalization that is the only reader of a sum."""
    norm = user(add.outputs[0], "LayerNormalization")
    if norm.attributes.get_int("axis", -1) not in (-1, 2) or len(norm.outputs) != 1:
        raise Mismatch(norm, "does not normalize over the features")
    check_vector(norm, 1, hidden)
    check_vector(norm, 2, hidden)
    return norm


def _tensors(matrices: tuple[Matrix, ...], norm1: ir.Node, norm2: ir.Node) -> tuple[Tensor, ...]:
    """The constants of a layer, in the order of ``Encoder_v1``'s inputs."""
    q, k, v, o, ffn1, ffn2 = (
        [(f"{name}_{tensor}", node, index) for tensor, node, index in matrix.tensors]
        for name, matrix in zip(("q", "k", "v", "o", "ffn1", "ffn2"), matrices, strict=True)
    )
    first, second = (
        [(f"gamma{number}", norm, 1), (f"beta{number}", norm, 2)]
        for number, norm in enumerate((norm1, norm2), 1)
    )
    return (*q, *k, *v, *o, *first, *ffn1, *ffn2, *second)


def _check_closed(nodes: list[ir.Node], y: ir.Value) -> None:
    """Check that only `nodes` read the intermediate results of `nodes`.

    Raises:
        Mismatch: another node, or the graph's outputs, use one.
    """
    inside = set(nodes)
    for node in nodes:
        for value in node.outputs:
            if value is not y and (
                value.is_graph_output() or any(use.node not in inside for use in value.uses())
            ):
                raise Mismatch(node, "has a result that is used outside the layer")
