"""L0 regularization with hard concrete gates (Louizos, Welling and Kingma 2018), as the movement-pruning paper uses it.

With l = -0.1, r = 1.1, b = 2/3 and one gate per block:

    training:  u ~ U(1e-4, 1 - 1e-4),  z = clamp(sigmoid((log u - log(1 - u) + S) / b) (r - l) + l, 0, 1)
    eval:      z = clamp(sigmoid(S) (r - l) + l, 0, 1)
    W' = W z,  penalty  lambda (1 / N) sum over the N matrices of mean(sigmoid(S - b log(-l / r)))

sigmoid(S - b log(-l / r)) is the probability that a gate is not 0, so the mean is the expected density. S starts at
2.197, where sigmoid(S) = 0.9. lambda is constant, or controlled to reach a density. At the end, the weights are
multiplied by the gates, W z, and the mask is z > 0.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from aerogel.sparse.masks import expand_blocks
from aerogel.train.method import StepContext
from aerogel.train.methods._penalised import Regularized, logit
from aerogel.train.methods.movement import ScoredMask

__all__ = ["L0", "METHOD", "Gate"]

_L, _R, _B = -0.1, 1.1, 2 / 3
_EDGE = 1e-4
_START = 2.197


class Gate(ScoredMask):
    """One hard concrete gate per block, sampled once per step: all micro-batches of the step use the same gates."""

    noise: Tensor

    def __init__(self, weight: Tensor, block: tuple[int, int]) -> None:
        super().__init__(weight, block)
        torch.nn.init.constant_(self.scores, _START)
        # Not saved: each step begins by sampling it.
        self.register_buffer("noise", torch.full_like(self.scores, 0.5), persistent=False)

    def sample(self) -> None:
        """Sample u."""
        self.noise.uniform_(_EDGE, 1 - _EDGE)

    def forward(self, weight: Tensor) -> Tensor:
        """W' ``[out, in]``."""
        return weight * cast(Tensor, expand_blocks(self.gate(), self.block))

    def gate(self) -> Tensor:
        """Gates z ``[out / r, in / c]``."""
        if not self.training:
            return self.eval_gate()
        u = self.noise
        return (((u.log() - (-u).log1p() + self.scores) / _B).sigmoid() * (_R - _L) + _L).clamp(0, 1)

    def eval_gate(self) -> Tensor:
        """Gates z in evaluation, without noise."""
        return (self.scores.sigmoid() * (_R - _L) + _L).clamp(0, 1)


class L0(Regularized):
    """Keep the blocks whose gates are above 0 in evaluation."""

    score_lr = 1e-1
    # Score at which sigmoid(S) (r - l) + l = 0.
    threshold = logit(-_L / (_R - _L))
    masks: dict[str, Gate]  # type: ignore[assignment]  # narrower than the base's: mask_for creates them

    def mask_for(self, weight: Tensor) -> Gate:
        """Create gates that are nearly open."""
        return Gate(weight, self.sparsity.block)

    def before_step(self, step: StepContext) -> None:
        """Set lambda_t and sample the gates."""
        super().before_step(step)
        for mask in self.masks.values():
            mask.sample()

    def regularized(self, scores: Tensor) -> Tensor:
        """Probability that a gate is not 0."""
        return (scores - _B * math.log(-_L / _R)).sigmoid()

    def log_values(self) -> dict[str, float]:
        """As the base class. The forward pass uses gates, so the masks are computed only for the log."""
        self.finalize()
        return super().log_values()

    @torch.no_grad()
    def finalize(self) -> None:
        """Set the masks to z > 0, with the gates of evaluation."""
        for name, mask in self.masks.items():
            self.set_mask(name, mask.eval_gate() > 0)


METHOD = L0
