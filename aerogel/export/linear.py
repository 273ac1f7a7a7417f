"""Linear layers of a captured graph, and the rules that recognize them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerogel.registry import Registry

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RULES", "Linear", "LinearRule", "constant_shape", "linears", "only_user"]


@dataclass(frozen=True)
class Linear:
    """The nodes that compute ``output = x W^T + bias``.

    Attributes:
        x: input ``[..., in]``.
        weight: initializer ``[out, in]``.
        bias: initializer ``[out]``, or None.
        output: ``[..., out]``.
        nodes: the nodes, first to last; no other node reads their intermediate results.
    """

    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    output: ir.Value
    nodes: tuple[ir.Node, ...]


class LinearRule(ABC):
    """One pattern of nodes that is a linear layer. A module of ``rules/`` defines ``RULE``, an instance."""

    @abstractmethod
    def match(self, node: ir.Node) -> Linear | None:
        """The linear layer whose matrix product is `node`; None if the nodes do not match the pattern."""


RULES: Registry[LinearRule] = Registry("rule", "aerogel.export.rules", "RULE")


def linears(model: ir.Model) -> Iterator[Linear]:
    """The linear layers of a graph, in its order."""
    rules = [RULES.get(name) for name in RULES.names()]
    for node in model.graph:
        found = (rule.match(node) for rule in rules)
        if linear := next(filter(None, found), None):
            yield linear


def constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape of an initializer; None for anything else."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return tuple(value.const_value.shape.numpy())


def only_user(value: ir.Value) -> ir.Node | None:
    """The only node that reads `value`; None if several do, or if `value` is a graph output."""
    users = [use.node for use in value.uses()]
    return users[0] if len(users) == 1 and not value.is_graph_output() else None
