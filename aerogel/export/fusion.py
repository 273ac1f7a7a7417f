"""Fusing: many nodes become a call of one model-local function, for which the native library may have one kernel.

The function's body is the nodes that it replaces, so the rule of `aerogel.ops.linear_function` holds for it too: stock
ONNX Runtime inlines it and computes what it always did.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerogel.registry import Registry

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FUSIONS", "Fused", "Fusion", "fuse"]


@dataclass(frozen=True)
class Fused:
    """What a fusion did to a model.

    Attributes:
        layers: layers that are now one node.
        found: layers of the model, whether they could be fused or not.
        why: the reason why not all of them are fused; empty where they are.
    """

    layers: int
    found: int
    why: str


class Fusion(ABC):
    """One kind of subgraph that becomes one node. A module of ``fusions/`` defines ``FUSION``, an instance."""

    @abstractmethod
    def fuse(self, model: ir.Model) -> Fused:
        """Replace, in place, what this fusion recognises, and add the function that it calls.

        Whatever does not fit in every respect is left as it is; that is no error, but the answer says why.

        Args:
            model: a simplified graph with the functions that it calls.
        """


FUSIONS: Registry[Fusion] = Registry("fusion", "aerogel.export.fusions", "FUSION")


def fuse(model: ir.Model) -> dict[str, Fused]:
    """Try every fusion on a model, in place; what came of it, by name."""
    return {name: FUSIONS.get(name).fuse(model) for name in FUSIONS.names()}
