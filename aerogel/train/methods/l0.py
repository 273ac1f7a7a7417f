"""L0 regularisation with hard concrete gates (Louizos, Welling and Kingma 2018), as the movement-pruning paper uses it.

With l = -0.1, r = 1.1, b = 2/3 and one gate per block:

    training:  u ~ U(1e-4, 1 - 1e-4),  z = clamp(sigmoid((log u - log(1 - u) + S) / b) (r - l) + l, 0, 1)
    test:      z = clamp(sigmoid(S) (r - l) + l, 0, 1)
    W' = W z,  penalty  lambda (1 / N) sum over the N matrices of mean(sigmoid(S - b log(-l / r)))

sigmoid(S - b log(-l / r)) is the probability that a gate is not 0, so the penalty is the expected density. S starts at
2.197, where 0.9 of the stretched interval is passed; lambda is constant, or steered to a density. The gates of the end
become part of the weights, W z, and the mask is z > 0.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from aerogel.sparse.masks import expand_blocks
from aerogel.train.method import StepContext
from aerogel.train.methods._penalised import Penalised, logit
from aerogel.train.methods.movement import ScoredMask

__all__ = ["L0", "METHOD", "Gate"]

_L, _R, _B = -0.1, 1.1, 2 / 3
_EDGE = 1e-4
_START = 2.197


class Gate(ScoredMask):
    """A hard concrete gate per block, drawn anew for each step: for all parts of its batch the same one."""

    noise: Tensor

    def __init__(self, weight: Tensor, block: tuple[int, int]) -> None:
        super().__init__(weight, block)
        torch.nn.init.constant_(self.scores, _START)
        # Not saved: a step begins with drawing it.
        self.register_buffer("noise", torch.full_like(self.scores, 0.5), persistent=False)

    def draw(self) -> None:
        """Draw u."""
        self.noise.uniform_(_EDGE, 1 - _EDGE)

    def forward(self, weight: Tensor) -> Tensor:
        """W' ``[out, in]``."""
        return weight * cast(Tensor, expand_blocks(self.gate(), self.block))

    def gate(self) -> Tensor:
        """The gates z ``[out / r, in / c]``."""
        if not self.training:
            return self.test_gate()
        u = self.noise
        return (((u.log() - (-u).log1p() + self.scores) / _B).sigmoid() * (_R - _L) + _L).clamp(0, 1)

    def test_gate(self) -> Tensor:
        """The gates z of evaluation, which nothing random enters."""
        return (self.scores.sigmoid() * (_R - _L) + _L).clamp(0, 1)


class L0(Penalised):
    """Keep the blocks whose gates stay open."""

    score_lr = 1e-1
    # Where sigmoid(S) (r - l) + l = 0.
    goal = logit(-_L / (_R - _L))
    masks: dict[str, Gate]  # type: ignore[assignment]  # as above: mask_for makes them all

    def mask_for(self, weight: Tensor) -> Gate:
        """Gates that are nearly open."""
        return Gate(weight, self.target.block)

    def before_step(self, step: StepContext) -> None:
        """Draw the gates, and set lambda_t."""
        super().before_step(step)
        for mask in self.masks.values():
            mask.draw()

    def penalised(self, scores: Tensor) -> Tensor:
        """Probability that a gate is not 0."""
        return (scores - _B * math.log(-_L / _R)).sigmoid()

    def log_values(self) -> dict[str, float]:
        """As the base has it; gates multiply in the forward pass, so the masks are made for this line only."""
        self.settle()
        return super().log_values()

    @torch.no_grad()
    def settle(self) -> None:
        """The masks that the gates at test make."""
        for name, mask in self.masks.items():
            self.set_mask(name, mask.test_gate() > 0)


METHOD = L0
