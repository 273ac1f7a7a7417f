"""Soft movement pruning: a threshold on the scores instead of a ranking (Sanh et al. 2020, section 4.2, "SMvP").

Forward:   W'_ij = W_ij M_ij,  M = 1[sigmoid(S) > tau_t]
Backward:  as hard movement pruning: the identity through M, so dL/dS_b = sum over (i, j) in block b of dL/dW'_ij W_ij
Penalty:   lambda_t (1 / N) sum over the N matrices of mean(sigmoid(S)),  lambda_t = lambda tau_t / tau_T

S starts at 0; tau follows the schedule from 0 to 0.1, so that tau_t / tau_T is the schedule's progress. At least 0.5%
of the blocks of each matrix are kept. The density follows from lambda, or lambda is controlled to reach a density.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aerogel.errors import UsageError
from aerogel.sparse.masks import kept_count, top_mask
from aerogel.train.method import StepContext
from aerogel.train.methods._penalised import Regularized, logit
from aerogel.train.methods.movement import ScoredMask

__all__ = ["METHOD", "SoftMovement"]

_TAU = 0.1
_FLOOR = 0.005


class SoftMovement(Regularized):
    """Keep the blocks whose score is above a rising threshold."""

    threshold = logit(_TAU)

    def mask_for(self, weight: Tensor) -> ScoredMask:
        """Create a mask with all scores 0."""
        return ScoredMask(weight, self.sparsity.block)

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """Also check that the density is above the minimum that each matrix keeps."""
        sizes = [scores.numel() for scores in self.score_parameters()]
        floor = sum(kept_count(_FLOOR, size) for size in sizes)
        # Each matrix is rounded separately.
        if self.controller and self.sparsity.density * sum(sizes) + 0.5 * len(sizes) < floor:
            raise UsageError(
                f"density {self.sparsity.density:g}: method soft-movement keeps at least {_FLOOR:g} or one block of "
                f"each matrix; give at least {floor / sum(sizes):.2g}, or choose another method"
            )
        super().check(steps)

    def regularized(self, scores: Tensor) -> Tensor:
        """sigmoid(S)."""
        return scores.sigmoid()

    def scheduled(self, step: StepContext) -> float:
        """tau_t / tau_T."""
        return step.progress

    def before_step(self, step: StepContext) -> None:
        """Set lambda_t, and the masks to the threshold tau_t."""
        super().before_step(step)
        self.apply_threshold(_TAU * step.progress)

    @torch.no_grad()
    def apply_threshold(self, tau: float) -> None:
        """Set every mask to sigmoid(S) > tau, or to the 0.5% highest scores if fewer are above."""
        # S > logit(tau) is the same condition, without the sigmoid of every score in every step.
        limit = logit(tau) if tau > 0 else -torch.inf
        for name, mask in self.masks.items():
            kept = mask.scores > limit
            floor = kept_count(_FLOOR, kept.numel())
            self.set_mask(name, kept if int(kept.sum()) >= floor else top_mask(mask.scores.detach(), floor))

    def finalize(self) -> None:
        """Set the masks to the final threshold."""
        self.apply_threshold(_TAU)


METHOD = SoftMovement
