"""Recognize masked multi-head self-attention from its Softmax.

    Q, K, V = x Wq^T + bq, x Wk^T + bk, x Wv^T + bv        [batch, sequence, heads d]
    merged = softmax(Q K^T / sqrt(d) + mask) V             per head; head h has features h d .. h d + d - 1

The scale may be applied anywhere between q or k and the Softmax, as one constant or several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerogel.export.fusions._graph import (
    Mismatch,
    compose,
    is_view,
    operand,
    producer_of,
    scalar,
    sizes,
    user,
    view,
)
from aerogel.export.fusions._matrix import Matrix, matrix_of
from aerogel.export.key_mask import LOWEST, NAME, is_mask

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MAX_HEAD_FEATURES", "Attention", "added_mask", "match_attention"]

MAX_HEAD_FEATURES = 256
"""Largest head that the kernels of every instruction set support; AVX-512 kernels refuse larger ones."""

_SPLIT = (0, 2, 1, 3)  # [batch, sequence, heads, d] to [batch, heads, sequence, d], and back
_SPLIT_TRANSPOSED = (0, 2, 3, 1)
_TOLERANCE = 1e-5  # relative, of a float32 scale


@dataclass(frozen=True)
class Attention:
    """Attention as ``Encoder_v1`` computes it.

    Attributes:
        x: input ``[batch, sequence, hidden]``.
        mask: int64 ``[batch, sequence]``, not 0 for real tokens: the input of the graph, or made of it by
            `aerogel.export.key_mask`.
        matrices: linear layers of q, k and v.
        heads: number of heads.
        nodes: all nodes from the outputs of the matrices to the merged heads.
        mask_add: the Add of the mask to the scores, and the index of its mask input.
        splits: the Reshapes that split q, k and v into heads.
        merge: the Reshape that merges the heads.
    """

    x: ir.Value
    mask: ir.Value
    matrices: tuple[Matrix, Matrix, Matrix]
    heads: int
    nodes: tuple[ir.Node, ...]
    mask_add: tuple[ir.Node, int]
    splits: tuple[ir.Node, ...]
    merge: ir.Node


@dataclass(frozen=True)
class _Part:
    """q, k or v: a linear layer whose output is split into heads, transposed, and optionally scaled."""

    matrix: Matrix
    split: ir.Node
    order: tuple[int, ...]
    scale: float
    nodes: tuple[ir.Node, ...]


def match_attention(softmax: ir.Node) -> Attention:
    """The attention that contains `softmax`.

    Raises:
        Mismatch: the nodes compute anything else than `Attention` describes.
    """
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        raise Mismatch(softmax, "does not normalize over the keys")
    add = producer_of(operand(softmax, 0), softmax, "Add")
    mask, index = added_mask(add)
    scores, scale, path = _unscaled(operand(add, 1 - index), add)
    product = producer_of(scores, add, "MatMul")
    q, k = (_part(operand(product, index), product) for index in (0, 1))

    weighted = user(softmax.outputs[0], "MatMul")
    if operand(weighted, 0) is not softmax.outputs[0]:
        raise Mismatch(weighted, "does not multiply the attention weights by the values")
    v = _part(operand(weighted, 1), weighted)
    transpose = user(weighted.outputs[0], "Transpose")
    merge = user(transpose.outputs[0], "Reshape")

    x = q.matrix.x
    for part in (k, v):
        if part.matrix.x is not x:
            raise Mismatch(part.matrix.nodes[0], f"does not read {x.name}, the input of q")
    if sizes(mask) != sizes(x)[:2]:
        raise Mismatch(add, f"has a mask of shape {sizes(mask)} for an input of shape {sizes(x)}")
    heads = _count_heads(x, (q, k, v), tuple(transpose.attributes.get_ints("perm", ())), merge)
    d = q.matrix.shape[0] // heads
    if d > MAX_HEAD_FEATURES:
        raise Mismatch(
            q.split,
            f"splits into heads of {d} features, more than the {MAX_HEAD_FEATURES} that the kernels support",
        )
    total = scale * q.scale * k.scale
    if not abs(total * math.sqrt(d) - 1) < _TOLERANCE:
        raise Mismatch(product, f"has scores scaled by {total:.6g} instead of 1 / sqrt({d})")
    if not abs(v.scale - 1) < _TOLERANCE:
        raise Mismatch(v.split, "splits scaled values")
    parts = (*q.nodes, *k.nodes, *v.nodes)
    nodes = (*parts, product, *path, add, softmax, weighted, transpose, merge)
    matrices, splits = (q.matrix, k.matrix, v.matrix), (q.split, k.split, v.split)
    return Attention(x, mask, matrices, heads, nodes, (add, index), splits, merge)


def added_mask(add: ir.Node) -> tuple[ir.Value, int]:
    """The mask from which an Add's additive mask is computed, and the index of the Add's mask input.

    Raises:
        Mismatch: no input of the Add is a mask as `aerogel.export.key_mask` describes it.
    """
    for index in (0, 1):
        node = operand(add, index).producer()
        if node is None or node.op_type != "Mul" or not any(scalar(v) == LOWEST for v in node.inputs):
            continue
        inverted = producer_of(next(v for v in node.inputs if scalar(v) != LOWEST), node, "Sub")
        if scalar(inverted.inputs[0]) != 1:
            raise Mismatch(inverted, "does not subtract the mask from 1")
        cast = producer_of(operand(inverted, 1), inverted, "Cast")
        unsqueeze = producer_of(operand(cast, 0), cast, "Unsqueeze")
        axes, mask = operand(unsqueeze, 1).const_value, operand(unsqueeze, 0)
        if cast.attributes.get_int("to", 0) != 1 or axes is None or axes.numpy().tolist() != [1, 2]:
            raise Mismatch(unsqueeze, "does not create a float32 mask over the keys")
        if not is_mask(mask):
            raise Mismatch(unsqueeze, f"does not read the input {NAME}")
        return mask, index
    raise Mismatch(add, f"adds a value to the scores that is not the mask computed from {NAME}")


def _unscaled(value: ir.Value, reader: ir.Node) -> tuple[ir.Value, float, list[ir.Node]]:
    """Strip multiplications and divisions by constants: the unscaled value, the total factor, and the nodes."""
    scale = 1.0
    nodes: list[ir.Node] = []
    while (node := value.producer()) is not None and not node.domain and node.op_type in ("Mul", "Div"):
        index = next((i for i in (1, 0) if scalar(operand(node, i)) is not None), None)
        if index is None or (node.op_type == "Div" and index == 0):
            raise Mismatch(
                node, f"scales the input of {reader.op_type} node {reader.name} by a non-constant value"
            )
        constant = scalar(node.inputs[index]) or math.nan
        scale *= constant if node.op_type == "Mul" else 1 / constant
        nodes.append(node)
        value = operand(node, 1 - index)
    return value, scale, nodes


def _part(value: ir.Value, reader: ir.Node) -> _Part:
    """The part (q, k or v) that computes `value` for `reader`."""
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
        raise Mismatch(node or reader, "is found where a split into heads is expected")
    return _Part(matrix_of(value, split), split, order, scale, tuple(nodes))


def _count_heads(x: ir.Value, parts: tuple[_Part, ...], merge_order: tuple[int, ...], merge: ir.Node) -> int:
    """Number of heads, if q, k and v are split alike and the heads are merged in the same order."""
    for part, order in zip(parts, (_SPLIT, _SPLIT_TRANSPOSED, _SPLIT), strict=True):
        if part.order != order:
            raise Mismatch(part.split, f"has axes in the order {list(part.order)}, not {list(order)}")
    outer, split, width = sizes(x), parts[0].split, parts[0].matrix.shape[0]
    count, d = ([0, 0, *view(split)])[-2:]
    heads = count if count != -1 or not isinstance(d, int) else width // max(d, 1)
    if len(outer) != 3 or not isinstance(heads, int) or heads < 1 or width % heads:
        raise Mismatch(split, "does not split [batch, sequence, features] into heads")
    for part in parts:
        if not is_view(part.split, [*outer[:2], heads, width // heads]):
            raise Mismatch(part.split, f"does not split [batch, sequence, features] into {heads} heads")
    if merge_order != _SPLIT or not is_view(merge, [*outer[:2], width]):
        raise Mismatch(merge, "does not merge the heads as they were split")
    return heads
