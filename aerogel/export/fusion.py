"""Fusions: replace many nodes by one call of a model-local function, which may have a kernel in the native library.

The function's body is a copy of the replaced nodes, so stock ONNX Runtime inlines it and computes the same outputs as
before; see `aerogel.ops.linear_function`.
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
    """Result of a fusion.

    Attributes:
        layers: number of layers that are now one node.
        found: number of layers in the model, fused or not.
        reason: why not all layers are fused; empty if all are.
    """

    layers: int
    found: int
    reason: str

    @property
    def why(self) -> str:
        """The former name of `reason`, which `aerogel.export.run` still reads."""
        return self.reason


class Fusion(ABC):
    """One kind of subgraph that becomes one node. A module of ``fusions/`` defines ``FUSION``, an instance."""

    @abstractmethod
    def fuse(self, model: ir.Model) -> Fused:
        """Replace matching subgraphs in place, and add the function that the new node calls.

        A subgraph that does not match exactly stays as it is. That is not an error; the result gives the reason.

        Args:
            model: a simplified graph with the functions that it calls.
        """


FUSIONS: Registry[Fusion] = Registry("fusion", "aerogel.export.fusions", "FUSION")


def fuse(model: ir.Model) -> dict[str, Fused]:
    """Apply every fusion to a model in place; returns the results by name."""
    return {name: FUSIONS.get(name).fuse(model) for name in FUSIONS.names()}
