"""Masked self-attention of several heads, found from its Softmax.

    Q, K, V = x Wq^T + bq, x Wk^T + bk, x Wv^T + bv        [batch, sequence, heads d]
    merged = softmax(Q K^T / sqrt(d) + mask) V             per head; head h owns features h d .. h d + d - 1

The scale may stand anywhere between q or k and the Softmax, in one constant or in several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.fusions._graph import (
    Mismatch,
    compose,
    is_view,
    maker,
    operand,
    scalar,
    sizes,
    user,
    view,
)
from aerogel.export.fusions._matrix import Matrix, matrix_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MOST_HEAD_FEATURES", "Attention", "match_attention"]

MOST_HEAD_FEATURES = 256
"""What the kernels of every instruction set have scratch memory for; AVX-512's refuse larger heads."""

_MASK = "attention_mask"
_LOWEST = float(np.finfo(np.float32).min)
_SPLIT = (0, 2, 1, 3)  # [batch, sequence, heads, d] to [batch, heads, sequence, d], and back
_SPLIT_TRANSPOSED = (0, 2, 3, 1)
_NEAR = 1e-5  # of a scale, in float32


@dataclass(frozen=True)
class Attention:
    """Attention as ``Encoder_v1`` computes it.

    Attributes:
        x: input ``[batch, sequence, hidden]``.
        mask: the graph's input that says which tokens are real, int64 ``[batch, sequence]``.
        matrices: those of q, k and v.
        heads: how many there are.
        nodes: those between the matrices and the merged heads, the latter included.
        added: the Add of the mask to the scores, and which of its inputs the mask is.
        splits: the Reshapes that split q, k and v into heads.
        merge: the Reshape that puts the heads together again.
    """

    x: ir.Value
    mask: ir.Value
    matrices: tuple[Matrix, Matrix, Matrix]
    heads: int
    nodes: tuple[ir.Node, ...]
    added: tuple[ir.Node, int]
    splits: tuple[ir.Node, ...]
    merge: ir.Node


@dataclass(frozen=True)
class _Part:
    """q, k or v: a linear layer whose output is split into heads, transposed, and perhaps scaled."""

    matrix: Matrix
    split: ir.Node
    order: tuple[int, ...]
    scale: float
    nodes: tuple[ir.Node, ...]


def match_attention(softmax: ir.Node) -> Attention:
    """The attention of which `softmax` is the Softmax.

    Raises:
        Mismatch: something of it is not as `Attention` has it.
    """
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        raise Mismatch(softmax, "is not over the keys")
    add = maker(operand(softmax, 0), softmax, "Add")
    mask, at = _added_mask(add)
    scores, scale, path = _unscaled(operand(add, 1 - at), add)
    product = maker(scores, add, "MatMul")
    q, k = (_part(operand(product, index), product) for index in (0, 1))

    weighted = user(softmax.outputs[0], "MatMul")
    if operand(weighted, 0) is not softmax.outputs[0]:
        raise Mismatch(weighted, "does not multiply attention by values")
    v = _part(operand(weighted, 1), weighted)
    together = user(weighted.outputs[0], "Transpose")
    merge = user(together.outputs[0], "Reshape")

    x = q.matrix.x
    for part in (k, v):
        if part.matrix.x is not x:
            raise Mismatch(part.matrix.nodes[0], f"does not read {x.name}, which q is made of")
    if sizes(mask) != sizes(x)[:2]:
        raise Mismatch(add, f"masks {sizes(mask)} where the layer reads {sizes(x)}")
    heads = _count_heads(x, (q, k, v), tuple(together.attributes.get_ints("perm", ())), merge)
    d = q.matrix.shape[0] // heads
    if d > MOST_HEAD_FEATURES:
        raise Mismatch(
            q.split,
            f"splits into heads of {d} features, more than the {MOST_HEAD_FEATURES} that kernels hold",
        )
    total = scale * q.scale * k.scale
    if not abs(total * math.sqrt(d) - 1) < _NEAR:
        raise Mismatch(product, f"has its scores scaled by {total:.6g}, not by 1 / sqrt({d})")
    if not abs(v.scale - 1) < _NEAR:
        raise Mismatch(v.split, "splits values that are scaled")
    parts = (*q.nodes, *k.nodes, *v.nodes)
    nodes = (*parts, product, *path, add, softmax, weighted, together, merge)
    matrices, splits = (q.matrix, k.matrix, v.matrix), (q.split, k.split, v.split)
    return Attention(x, mask, matrices, heads, nodes, (add, at), splits, merge)


def _added_mask(add: ir.Node) -> tuple[ir.Value, int]:
    """The graph's input that the additive mask among an Add's inputs is made of, and which of them the mask is.

    It is what capture makes for all layers: ``(1 - float(mask[:, None, None, :])) * lowest``.
    """
    for at in (0, 1):
        node = operand(add, at).producer()
        if node is None or node.op_type != "Mul" or not any(scalar(v) == _LOWEST for v in node.inputs):
            continue
        inverted = maker(next(v for v in node.inputs if scalar(v) != _LOWEST), node, "Sub")
        if scalar(inverted.inputs[0]) != 1:
            raise Mismatch(inverted, "does not take the mask from 1")
        cast = maker(operand(inverted, 1), inverted, "Cast")
        unsqueeze = maker(operand(cast, 0), cast, "Unsqueeze")
        axes, mask = operand(unsqueeze, 1).const_value, operand(unsqueeze, 0)
        if cast.attributes.get_int("to", 0) != 1 or axes is None or axes.numpy().tolist() != [1, 2]:
            raise Mismatch(unsqueeze, "does not make a float32 mask over the keys")
        if not mask.is_graph_input() or mask.name != _MASK:
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


def _part(value: ir.Value, reader: ir.Node) -> _Part:
    """The part of attention that gives `value` to `reader`."""
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
    return _Part(matrix_of(value, split), split, order, scale, tuple(nodes))


def _count_heads(x: ir.Value, parts: tuple[_Part, ...], together: tuple[int, ...], merge: ir.Node) -> int:
    """How many heads there are, if q, k and v are split into them alike and put together again the same way."""
    for part, order in zip(parts, (_SPLIT, _SPLIT_TRANSPOSED, _SPLIT), strict=True):
        if part.order != order:
            raise Mismatch(part.split, f"is of heads in the order {list(part.order)}, not {list(order)}")
    outer, split, width = sizes(x), parts[0].split, parts[0].matrix.shape[0]
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
