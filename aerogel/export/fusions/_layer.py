"""One layer of a post-LayerNorm encoder, found from the Softmax of its attention.

Q, K, V = x Wq^T + bq, x Wk^T + bk, x Wv^T + bv
A  = softmax(Q K^T / sqrt(d) + mask) V                 per head; head h owns features h d .. h d + d - 1
x1 = LN1(x + A Wo^T + bo)
y  = LN2(x1 + W2 act(W1 x1 + b1) + b2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.fusions._activation import activation
from aerogel.export.fusions._graph import (
    Mismatch,
    compose,
    is_view,
    maker,
    operand,
    other,
    scalar,
    sizes,
    user,
    view,
)
from aerogel.export.fusions._matrix import Matrix, Slot, check_vector, matrix_of, reader_of
from aerogel.export.linear import only_user

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Layer", "match_layer"]

_MASK = "attention_mask"
_SPLIT = (0, 2, 1, 3)  # [batch, sequence, heads, d] to [batch, heads, sequence, d], and back
_SPLIT_TRANSPOSED = (0, 2, 3, 1)
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Layer:
    """A layer that ``Encoder_v1`` can compute.

    Attributes:
        x: input ``[batch, sequence, hidden]``.
        y: output of the same shape.
        mask: the graph's input that says which tokens are real, int64 ``[batch, sequence]``.
        matrices: those of q, k, v, o, ffn1 and ffn2.
        tensors: all constants, in the order of ``Encoder_v1``.
        heads: attention heads.
        epsilon: of both LayerNormalizations.
        activation: name of the feed-forward activation.
        nodes: everything between x and y.
        added: the Add of the mask to the scores, and which of its inputs the mask is.
        splits: the Reshapes that split q, k and v into heads.
        merge: the Reshape that puts the heads together again.
    """

    x: ir.Value
    y: ir.Value
    mask: ir.Value
    matrices: tuple[Matrix, ...]
    tensors: tuple[Slot, ...]
    heads: int
    epsilon: float
    activation: str
    nodes: frozenset[ir.Node]
    added: tuple[ir.Node, int]
    splits: tuple[ir.Node, ...]
    merge: ir.Node


@dataclass(frozen=True)
class _Heads:
    """A linear layer whose output is split into heads, transposed, and perhaps scaled."""

    matrix: Matrix
    split: ir.Node
    order: tuple[int, ...]
    scale: float
    nodes: tuple[ir.Node, ...]


def match_layer(softmax: ir.Node) -> Layer:
    """The layer in whose attention `softmax` stands.

    Raises:
        Mismatch: something of it is not as `Layer` has it.
    """
    nodes: list[ir.Node] = [softmax]
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        raise Mismatch(softmax, "is not over the keys")

    # Backwards: mask, scale, scores, and the layers of q and k.
    add = maker(operand(softmax, 0), softmax, "Add")
    mask, at = _added_mask(add)
    scores, scale, path = _unscaled(operand(add, 1 - at), add)
    product = maker(scores, add, "MatMul")
    nodes += [add, *path, product]
    q = _heads(operand(product, 0), product)
    k = _heads(operand(product, 1), product)

    # Forwards: the layer of v, the heads put together, and what follows.
    weighted = user(softmax.outputs[0], "MatMul")
    if operand(weighted, 0) is not softmax.outputs[0]:
        raise Mismatch(weighted, "does not multiply attention by values")
    v = _heads(operand(weighted, 1), weighted)
    together = user(weighted.outputs[0], "Transpose")
    merge = user(together.outputs[0], "Reshape")
    nodes += [weighted, together, merge]
    o = reader_of(merge.outputs[0], only_user(merge.outputs[0]))

    x = q.matrix.x
    for part in (k, v):
        if part.matrix.x is not x:
            raise Mismatch(part.matrix.nodes[0], f"does not read {x.name}, which q is made of")
    if sizes(mask) != sizes(x)[:2]:
        raise Mismatch(add, f"masks {sizes(mask)} where the layer reads {sizes(x)}")
    heads = _check_heads(x, (q, k, v), tuple(together.attributes.get_ints("perm", ())), merge)
    d = q.matrix.shape[0] // heads
    total = scale * q.scale * k.scale
    if abs(total * math.sqrt(d) - 1) > 1e-5:
        raise Mismatch(product, f"has its scores scaled by {total:.6g}, not by 1 / sqrt({d})")
    if abs(v.scale - 1) > 1e-5:
        raise Mismatch(v.split, "is of values that are scaled")

    hidden = q.matrix.shape[1]
    first = _residual(o, x)
    norm1 = _norm(first, hidden)
    x1 = norm1.outputs[0]
    readers = [use.node for use in x1.uses()]
    sums = [node for node in readers if node.op_type == "Add" and not node.domain]
    if len(readers) != 2 or len(sums) != 1 or x1.is_graph_output():
        raise Mismatch(norm1, "is not read by one linear layer and one residual Add alone")
    ffn1 = reader_of(x1, next(node for node in readers if node is not sums[0]))
    ffn2 = matrix_of(other(sums[0], x1), sums[0])
    name, between = activation(ffn1.output, ffn2.x)
    norm2 = _norm(sums[0], hidden)
    matrices = (q.matrix, k.matrix, v.matrix, o, ffn1, ffn2)
    _check_shapes(matrices, hidden)
    epsilons = [norm.attributes.get_float("epsilon", 1e-5) for norm in (norm1, norm2)]
    if epsilons[0] != epsilons[1]:
        raise Mismatch(norm2, f"has epsilon {epsilons[1]:g}, the layer's first {epsilons[0]:g}")

    nodes += [first, norm1, *between, sums[0], norm2]
    for part in (q, k, v):
        nodes += part.nodes
    for matrix in matrices:
        nodes += matrix.nodes
    layer = Layer(
        x, norm2.outputs[0], mask, matrices, _tensors(matrices, norm1, norm2), heads, epsilons[0], name,
        frozenset(nodes), (add, at), (q.split, k.split, v.split), merge,
    )  # fmt: skip
    _check_closed(nodes, layer.y)
    return layer


def _added_mask(add: ir.Node) -> tuple[ir.Value, int]:
    """The graph's input that the additive mask among an Add's inputs is made of, and which of them the mask is.

    It is what capture makes for all layers: ``(1 - float(mask[:, None, None, :])) * lowest``.
    """
    for at in (0, 1):
        node = operand(add, at).producer()
        if (
            node is None
            or node.op_type != "Mul"
            or not any(scalar(value) == _LOWEST for value in node.inputs)
        ):
            continue
        inverted = maker(next(v for v in node.inputs if scalar(v) != _LOWEST), node, "Sub")
        if scalar(inverted.inputs[0]) != 1:
            raise Mismatch(inverted, "does not take the mask from 1")
        cast = maker(operand(inverted, 1), inverted, "Cast")
        unsqueeze = maker(operand(cast, 0), cast, "Unsqueeze")
        axes, mask = operand(unsqueeze, 1).const_value, operand(unsqueeze, 0)
        if cast.attributes.get_int("to", 0) != 1 or axes is None or axes.numpy().tolist() != [1, 2]:
            raise Mismatch(unsqueeze, "does not make a float32 mask over the keys")
        if not mask.is_graph_input() or mask.name != _MASK or len(sizes(mask)) != 2:
            raise Mismatch(unsqueeze, f"does not read the input {_MASK}")
        return mask, at
    raise Mismatch(add, f"adds something else to the scores than the mask made of {_MASK}")


def _unscaled(value: ir.Value, reader: ir.Node) -> tuple[ir.Value, float, list[ir.Node]]:
    """What `value` is before multiplications and divisions by constants, their factor, and their nodes."""
    scale = 1.0
    nodes: list[ir.Node] = []
    while (node := value.producer()) is not None and not node.domain and node.op_type in ("Mul", "Div"):
        at = next((i for i in (1, 0) if scalar(operand(node, i)) is not None), None)
        if at is None or (node.op_type == "Div" and at == 0):
            raise Mismatch(node, f"scales what {reader.op_type} node {reader.name} reads by no constant")
        constant = scalar(node.inputs[at]) or math.nan
        scale *= constant if node.op_type == "Mul" else 1 / constant
        nodes.append(node)
        value = operand(node, 1 - at)
    return value, scale, nodes


def _heads(value: ir.Value, reader: ir.Node) -> _Heads:
    order, scale, split = tuple(range(4)), 1.0, None
    nodes: list[ir.Node] = []
    while True:
        value, factor, path = _unscaled(value, reader)
        scale, nodes = scale * factor, nodes + path
        node = value.producer()
        if node is None or split or node.domain or node.op_type not in ("Transpose", "Reshape"):
            break
        nodes.append(node)
        if node.op_type == "Reshape":
            split = node
        else:
            perm = node.attributes.get_ints("perm", ())
            if len(perm) != 4:
                raise Mismatch(node, "does not transpose four dimensions")
            order = compose(order, perm)
        value = operand(node, 0)
    if split is None:
        raise Mismatch(node or reader, "stands where features should be split into heads")
    return _Heads(matrix_of(value, split), split, order, scale, tuple(nodes))


def _check_heads(x: ir.Value, parts: tuple[_Heads, ...], together: tuple[int, ...], merge: ir.Node) -> int:
    """Demand that q, k and v are split into heads alike and put together again; how many heads there are."""
    outer = sizes(x)
    for part, order in zip(parts, (_SPLIT, _SPLIT_TRANSPOSED, _SPLIT), strict=True):
        if part.order != order:
            raise Mismatch(part.split, f"is of heads in the order {list(part.order)}, not {list(order)}")
    split = parts[0].split
    width = parts[0].matrix.shape[0]
    count, d = ([0, 0, *view(split)])[-2:]
    heads = count if count != -1 or not isinstance(d, int) else width // max(d, 1)
    if len(outer) != 3 or not isinstance(heads, int) or heads < 1 or width % heads:
        raise Mismatch(split, "does not split [batch, sequence, features] into heads")
    for part in parts:
        if not is_view(part.split, [*outer[:2], heads, width // heads]):
            raise Mismatch(part.split, f"does not split [batch, sequence, features] into {heads} heads")
    if together != _SPLIT or not is_view(merge, [*outer[:2], width]):
        raise Mismatch(merge, "does not put the heads together as they were split")
    return heads


def _residual(matrix: Matrix, x: ir.Value) -> ir.Node:
    """The Add of a layer's output to the layer's input `x`."""
    add = user(matrix.output, "Add")
    if other(add, matrix.output) is not x:
        raise Mismatch(add, f"does not add {x.name}, the input of attention, as a post-LayerNorm layer does")
    return add


def _norm(add: ir.Node, hidden: int) -> ir.Node:
    """The LayerNormalization that alone reads a sum."""
    norm = user(add.outputs[0], "LayerNormalization")
    if norm.attributes.get_int("axis", -1) not in (-1, 2) or len(norm.outputs) != 1:
        raise Mismatch(norm, "is not over the features")
    check_vector(norm, 1, hidden)
    check_vector(norm, 2, hidden)
    return norm


def _check_shapes(matrices: tuple[Matrix, ...], hidden: int) -> None:
    inner = matrices[4].shape[0]
    wanted = [(hidden, hidden)] * 4 + [(inner, hidden), (hidden, inner)]
    for matrix, shape in zip(matrices, wanted, strict=True):
        if matrix.shape != shape:
            raise Mismatch(
                matrix.nodes[0],
                f"is {matrix.shape[0]}x{matrix.shape[1]} where {shape[0]}x{shape[1]} should be",
            )


def _tensors(matrices: tuple[Matrix, ...], norm1: ir.Node, norm2: ir.Node) -> tuple[Slot, ...]:
    names = ("q", "k", "v", "o", "ffn1", "ffn2")
    packed = [
        tuple((f"{name}_{tensor}", node, at) for tensor, node, at in matrix.tensors)
        for name, matrix in zip(names, matrices, strict=True)
    ]
    scale1, scale2 = (
        ((f"gamma{number}", norm, 1), (f"beta{number}", norm, 2))
        for number, norm in enumerate((norm1, norm2), 1)
    )
    return (*packed[0], *packed[1], *packed[2], *packed[3], *scale1, *packed[4], *packed[5], *scale2)


def _check_closed(nodes: list[ir.Node], y: ir.Value) -> None:
    """Demand that nothing but `nodes` reads what they compute on the way to `y`."""
    inside = set(nodes)
    for node in nodes:
        for value in node.outputs:
            if value is not y and (
                value.is_graph_output() or any(use.node not in inside for use in value.uses())
            ):
                raise Mismatch(node, "gives a result that is used outside the layer")
