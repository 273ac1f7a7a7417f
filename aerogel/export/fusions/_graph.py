"""Reading a graph: what computes a value, what reads it, which constants and sizes stand in it."""

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
    "maker",
    "operand",
    "other",
    "scalar",
    "sizes",
    "user",
    "view",
]

Dim = int | str | None
"""A size: known, open and called by a name, or unknown."""


class Mismatch(Exception):  # noqa: N818 - an answer, not an error: the model stays as it is
    """Why some nodes are not what a fusion needs; names the node at which that shows.

    Attributes:
        node: the node.
        why: the reason, to be read after the node's name.
    """

    def __init__(self, node: ir.Node, why: str) -> None:
        super().__init__(f"{node.op_type} node {node.name} {why}")
        self.node = node
        self.why = why


def maker(value: ir.Value | None, reader: ir.Node, *kinds: str) -> ir.Node:
    """The node that computes `value` for `reader`, an operator of one of those kinds.

    Raises:
        Mismatch: it is of another kind, or there is none.
    """
    node = value.producer() if value is not None else None
    wanted = " or ".join(kinds)
    if node is None:
        raise Mismatch(reader, f"reads what no node computes where a result of {wanted} should be")
    if node.domain or node.op_type not in kinds:
        raise Mismatch(node, f"stands where {wanted} should be")
    return node


def user(value: ir.Value, *kinds: str) -> ir.Node:
    """The one node that reads `value`, an operator of one of those kinds.

    Raises:
        Mismatch: several nodes read it, or another kind does, or it leaves the graph.
    """
    made = value.producer()
    assert made is not None  # asked of results only
    node, wanted = only_user(value), " or ".join(kinds)
    if node is None:
        raise Mismatch(made, f"gives a result that is not read by one {wanted} alone")
    if node.domain or node.op_type not in kinds:
        raise Mismatch(node, f"stands where {wanted} should be")
    return node


def operand(node: ir.Node, index: int) -> ir.Value:
    """An input that must be there.

    Raises:
        Mismatch: it is left out.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise Mismatch(node, f"lacks input {index}")
    return value


def other(node: ir.Node, value: ir.Value) -> ir.Value:
    """The other input of a node of two, one of which is `value`.

    Raises:
        Mismatch: neither is.
    """
    first, second = operand(node, 0), operand(node, 1)
    if value is first:
        return second
    if value is not second:
        raise Mismatch(node, f"does not read {value.name}")
    return first


def scalar(value: ir.Value | None) -> float | None:
    """The number that a constant of one element holds; None for anything else."""
    constant = value.const_value if value is not None else None
    if constant is None or constant.size != 1:
        return None
    return float(constant.numpy().item())


def sizes(value: ir.Value) -> list[Dim]:
    """The dimensions of a value."""
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape or ()]


def compose(outer: Sequence[int], inner: Sequence[int]) -> tuple[int, ...]:
    """The permutation of a Transpose by `inner` followed by one by `outer`."""
    return tuple(inner[axis] for axis in outer)


def view(reshape: ir.Node) -> list[Dim]:
    """The dimensions that a Reshape asks for, -1 where it leaves one to be inferred; empty if that is not known."""
    target = _vector(operand(reshape, 1)) or []
    copied = [] if reshape.attributes.get_int("allowzero", 0) else sizes(operand(reshape, 0))
    return [copied[axis] if size == 0 and axis < len(copied) else size for axis, size in enumerate(target)]


def is_view(reshape: ir.Node, wanted: Sequence[Dim]) -> bool:
    """Whether a Reshape gives the dimensions `wanted`, all known or named; it may leave one to be inferred."""
    found = view(reshape)
    return (
        len(found) == len(wanted)
        and found.count(-1) <= 1
        and None not in wanted
        and all(size in (-1, want) for size, want in zip(found, wanted, strict=True))
    )


def _vector(value: ir.Value) -> list[Dim] | None:
    """The elements of a vector of sizes, as far as constants and shapes in the graph tell them."""
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
