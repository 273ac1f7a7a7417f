"""How sparse a model is: per matrix, over the pruned matrices, and over the whole encoder.

The movement-pruning paper reports the last: biases and LayerNorm weights of the encoder count as kept, so that a
nominal 10% reads as 10.1%.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Accounting", "MatrixDensity", "account"]


@dataclass(frozen=True)
class MatrixDensity:
    """Kept entries of one matrix of shape (out_features, in_features)."""

    shape: tuple[int, int]
    kept: int

    @property
    def density(self) -> float:
        """Fraction of entries kept."""
        return self.kept / (self.shape[0] * self.shape[1])


@dataclass(frozen=True)
class Accounting:
    """Densities of a pruned model.

    Attributes:
        matrices: per pruned matrix.
        density: kept fraction over all pruned matrices.
        encoder_density: kept fraction over all encoder parameters, those never pruned counted as kept.
    """

    matrices: dict[str, MatrixDensity]
    density: float
    encoder_density: float


def account(masks: Mapping[str, np.ndarray], encoder_parameters: int) -> Accounting:
    """Count what `masks` keep, per matrix and in an encoder of `encoder_parameters` parameters in all."""
    matrices = {
        name: MatrixDensity((mask.shape[0], mask.shape[1]), int(np.count_nonzero(mask)))
        for name, mask in masks.items()
    }
    kept = sum(m.kept for m in matrices.values())
    total = sum(m.shape[0] * m.shape[1] for m in matrices.values())
    rest = encoder_parameters - total
    return Accounting(
        matrices=matrices,
        density=kept / total if total else 1.0,
        encoder_density=(kept + rest) / encoder_parameters if encoder_parameters else 1.0,
    )
