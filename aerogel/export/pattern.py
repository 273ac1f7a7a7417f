"""Patterns: write what exporters spell in many ways in the one form that the fusions read.

A pattern applies where the nodes are proven to compute the same: constants are equal within rounding, axes are right.
What it does not know stays as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from aerogel.registry import Registry

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["PATTERNS", "Pattern", "canonicalize"]

# One pattern may make another apply; two rounds are the most seen.
_ROUNDS = 4


class Pattern(ABC):
    """One thing that is spelled in many ways. A module of ``patterns/`` defines ``PATTERN``, an instance."""

    @abstractmethod
    def apply(self, model: ir.Model) -> int:
        """Write every occurrence in the form that the fusions read, in place; returns how many were changed."""


PATTERNS: Registry[Pattern] = Registry("pattern", "aerogel.export.patterns", "PATTERN")


def canonicalize(model: ir.Model) -> None:
    """Apply every pattern to a simplified graph until nothing changes, and remove what is then unused. In place."""
    import onnx_ir.passes.common as passes

    for _ in range(_ROUNDS):
        if not sum(PATTERNS.get(name).apply(model) for name in PATTERNS.names()):
            break
        passes.RemoveUnusedNodesPass()(model)
