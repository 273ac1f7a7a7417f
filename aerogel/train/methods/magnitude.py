"""Magnitude pruning: M = Top_v(|W|). The baseline of the movement-pruning paper (Sanh et al. 2020, section 3)."""

from __future__ import annotations

from torch import Tensor

from aerogel.sparse.masks import block_scores
from aerogel.train.method import Method

__all__ = ["METHOD", "Magnitude"]


class Magnitude(Method):
    """Keep the weights with the largest absolute values. Pruned weights get no gradient, so few return."""

    def scores(self) -> dict[str, Tensor]:
        """Sum of |W| over each block."""
        return {
            name: block_scores(weight.detach().abs(), self.sparsity.block)
            for name, weight in self.weights.items()
        }


METHOD = Magnitude
