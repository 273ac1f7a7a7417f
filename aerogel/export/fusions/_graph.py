"""Query a graph: the producer and readers of a value, constants and dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aerogel.export.linear import only_user

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "Dim",
    "Mismatch",
    "compose",
    "is_view",
    "operand",
    "other",
    "producer_of",
    "scalar",
    "sizes",
    "user",
    "view",
]

Dim = int | str | None
"""A dimension: a known size, the name of a dynamic one, or None if unknown."""


class Mismatch(Exception):  # noqa: N818 - not an error: the model stays as it is
    """Nodes do not match the pattern of a fusion; names the first node that does not.

    Attributes:
        node: the node.
        reason: a verb phrase, whose subject is the node.
    """

    def __init__(self, node: ir.Node, reason: str) -> None:
        super().__init__(f"{node.op_type} node {node.name} {reason}")
        self.node = node
        self.reason = reason


def producer_of(value: ir.Value | None, reader: ir.Node, *op_types: str) -> ir.Node:
    """The node that computes `value` for `reader`, with one of the operator types.

    Raises:
        Mismatch: it has another operator type, or `value` is not computed by a node.
    """
    node = value.producer() if value is not None else None
    wanted = " or ".join(op_types)
    if node is None:
        raise Mismatch(reader, f"reads a value that no {wanted} node computes")
    if node.domain or node.op_type not in op_types:
        raise Mismatch(node, f"is found where {wanted} is expected")
    return node


def user(value: ir.Value, *op_types: str) -> ir.Node:
    """The only node that reads `value`, with one of the operator types.

    Raises:
        Mismatch: several nodes read `value`, its reader has another operator type, or it is a graph output.
    """
    producer = value.producer()
    assert producer is not None  # callers pass results of nodes only
    node, wanted = only_user(value), " or ".join(op_types)
    if node is None:
        raise Mismatch(producer, f"has a result that is not read by exactly one {wanted}")
    if node.domain or node.op_type not in op_types:
        raise Mismatch(node, f"is found where {wanted} is expected")
    return node


def operand(node: ir.Node, index: int) -> ir.Value:
    """A required input.

    Raises:
        Mismatch: the input is missing.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise Mismatch(node, f"lacks input {index}")
    return value


def other(node: ir.Node, value: ir.Value) -> ir.Value:
    """The other input of a binary node that reads `value`.

    Raises:
        Mismatch: neither input is `value`.
    """
    first, second = operand(node, 0), operand(node, 1)
    if value is first:
        return second
    if value is not second:
        raise Mismatch(node, f"does not read {value.name}")
    return first


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant of one element; None for anything else."""
    constant = value.const_value if value is not None else None
    if constant is None or constant.size != 1:
        return None
    return float(constant.numpy().item())


def sizes(value: ir.Value) -> list[Dim]:
    """The dimensions of a value."""
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape or ()]


def compose(outer: Sequence[int], inner: Sequence[int]) -> tuple[int, ...]:
    """The permutation of a Transpose by `inner`, followed by one by `outer`."""
    return tuple(inner[axis] for axis in outer)


def view(reshape: ir.Node) -> list[Dim]:
    """The target dimensions of a Reshape, -1 for an inferred one; empty if they are unknown."""
    target = _vector(operand(reshape, 1)) or []
    copied = [] if reshape.attributes.get_int("allowzero", 0) else sizes(operand(reshape, 0))
    return [copied[axis] if size == 0 and axis < len(copied) else size for axis, size in enumerate(target)]


def is_view(reshape: ir.Node, wanted: Sequence[Dim]) -> bool:
    """Whether a Reshape outputs the dimensions `wanted`, all known or named; one may be inferred."""
    found = view(reshape)
    return (
        len(found) == len(wanted)
        and found.count(-1) <= 1
        and None not in wanted
        and all(size in (-1, want) for size, want in zip(found, wanted, strict=True))
    )


def _vector(value: ir.Value) -> list[Dim] | None:
    """The elements of a vector of dimensions, if constants and Shape nodes determine them; else None."""
    if value.const_value is not None:
        return [int(size) for size in value.const_value.numpy().ravel()]
    node = value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "Shape":
        return sizes(operand(node, 0))[
            node.attributes.get_int("start", 0) : node.attributes.get_int("end", None)
        ]
    if node.op_type == "Concat":
        parts = [_vector(part) for part in node.inputs if part is not None]
        return None if None in parts else [size for part in parts for size in part or ()]
    return None
