"""Densities of a model: per matrix, over all pruned matrices, and over the encoder.

The movement-pruning paper reports the density of the encoder, whose biases and LayerNorm weights count as kept: a
nominal 10% becomes 10.1%.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Accounting", "MatrixDensity", "account"]


@dataclass(frozen=True)
class MatrixDensity:
    """Kept weights of one matrix.

    Attributes:
        shape: (out_features, in_features).
        kept: number of kept weights.
    """

    shape: tuple[int, int]
    kept: int

    @property
    def density(self) -> float:
        """Fraction of weights kept."""
        return self.kept / (self.shape[0] * self.shape[1])


@dataclass(frozen=True)
class Accounting:
    """Densities of a pruned model.

    Attributes:
        matrices: kept weights of each pruned matrix, by name.
        density: kept fraction of all pruned matrices together.
        encoder_density: kept fraction of all encoder parameters; parameters without a mask count as kept.
    """

    matrices: dict[str, MatrixDensity]
    density: float
    encoder_density: float


def account(masks: Mapping[str, np.ndarray], encoder_parameters: int) -> Accounting:
    """Compute the densities of an encoder.

    Args:
        masks: boolean ``[out, in]`` by name.
        encoder_parameters: number of parameters of the encoder, including those without a mask.
    """
    matrices = {
        name: MatrixDensity((mask.shape[0], mask.shape[1]), int(np.count_nonzero(mask)))
        for name, mask in masks.items()
    }
    kept = sum(m.kept for m in matrices.values())
    total = sum(m.shape[0] * m.shape[1] for m in matrices.values())
    unmasked = encoder_parameters - total
    return Accounting(
        matrices=matrices,
        density=kept / total if total else 1.0,
        encoder_density=(kept + unmasked) / encoder_parameters if encoder_parameters else 1.0,
    )
