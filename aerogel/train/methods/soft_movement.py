"""Soft movement pruning: a threshold on the scores instead of a ranking (Sanh et al. 2020, section 4.2, "SMvP").

Forward:   W'_ij = W_ij M_ij,  M = 1[sigmoid(S) > tau_t]
Backward:  as hard movement: the identity through M, so dL/dS_b = sum over (i, j) in block b of dL/dW'_ij W_ij
Penalty:   lambda_t (1 / N) sum over the N matrices of mean(sigmoid(S)),  lambda_t = lambda tau_t / tau_T

S starts at 0; tau follows the schedule from 0 to 0.1, so that tau_t / tau_T is the schedule's progress. At least 0.5%
of the blocks of each matrix are kept. The density is an outcome of lambda, or lambda is steered to a density.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aerogel.errors import UsageError
from aerogel.sparse.masks import kept_count, top_mask
from aerogel.train.method import StepContext
from aerogel.train.methods._penalised import Penalised, logit
from aerogel.train.methods.movement import ScoredMask

__all__ = ["METHOD", "SoftMovement"]

_TAU = 0.1
_FLOOR = 0.005


class SoftMovement(Penalised):
    """Keep the blocks whose score stays above a threshold that rises."""

    goal = logit(_TAU)

    def mask_for(self, weight: Tensor) -> ScoredMask:
        """A mask whose scores are 0."""
        return ScoredMask(weight, self.target.block)

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """The floor too must leave room."""
        sizes = [scores.numel() for scores in self.score_parameters()]
        floor = sum(kept_count(_FLOOR, size) for size in sizes)
        # Each matrix is rounded by itself.
        if self.controller and self.target.density * sum(sizes) + 0.5 * len(sizes) < floor:
            raise UsageError(
                f"--density {self.target.density:g} is below what soft-movement leaves of each matrix, "
                f"{_FLOOR:g} or one block; give at least {floor / sum(sizes):.2g}, or another --method"
            )
        super().check(steps)

    def penalised(self, scores: Tensor) -> Tensor:
        """sigmoid(S)."""
        return scores.sigmoid()

    def scheduled(self, step: StepContext) -> float:
        """tau_t / tau_T."""
        return step.progress

    def before_step(self, step: StepContext) -> None:
        """Set lambda_t, and the masks by tau_t."""
        super().before_step(step)
        self.threshold(_TAU * step.progress)

    @torch.no_grad()
    def threshold(self, tau: float) -> None:
        """Set every mask to sigmoid(S) > tau, or to its 0.5% highest scores where fewer are above."""
        # sigmoid(S) > tau as S > logit(tau): no sigmoid of every score in every step.
        least = logit(tau) if tau > 0 else -torch.inf
        for name, mask in self.masks.items():
            kept = mask.scores > least
            floor = kept_count(_FLOOR, kept.numel())
            self.set_mask(name, kept if int(kept.sum()) >= floor else top_mask(mask.scores.detach(), floor))

    def settle(self) -> None:
        """The masks at the final threshold."""
        self.threshold(_TAU)


METHOD = SoftMovement
