"""Movement pruning, hard: M = Top_v(S) with scores learnt by a straight-through estimator (Sanh et al. 2020).

Forward:   W'_ij = W_ij M_ij,  M = Top_v(S)
Backward:  dL/dW_ij = dL/dW'_ij M_ij,  dL/dS_b = sum over (i, j) in block b of dL/dW'_ij W_ij

S starts at 0 and holds one value per block (per weight when blocks are 1x1). A weight that moves away from zero while
training gains score. Pruned weights keep their value, and their scores keep learning, so they may come back.

Not in the paper: S may start at c |W_b| / mean |W| instead, so that sizes decide until training has said more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from aerogel.errors import UsageError
from aerogel.sparse.masks import block_scores
from aerogel.train.method import Mask, Method

__all__ = ["METHOD", "Movement", "Options", "ScoredMask"]


@dataclass(frozen=True)
class Options:
    """Options of movement pruning.

    Attributes:
        start: c, what |W| / mean |W| of each matrix counts in the scores to begin with; 0 in the paper.
    """

    start: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < math.inf:
            raise UsageError(f"--option start={self.start:g}: must be a number, 0 or more")


class _StraightThrough(torch.autograd.Function):
    """W' = W * M in the forward pass; the identity through Top_v in the backward pass."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor, block: tuple[int, int]) -> Tensor:
        del scores  # an input only so that backward can return their gradient
        ctx.save_for_backward(weight, mask)
        ctx.block = block
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, mask = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * mask, block_scores(gradient * weight, ctx.block), None, None


class ScoredMask(Mask):
    """A mask with a learnt score per block ``[out / r, in / c]``."""

    def __init__(self, weight: Tensor, block: tuple[int, int]) -> None:
        super().__init__(weight)
        self.block = block
        rows, cols = weight.shape[0] // block[0], weight.shape[1] // block[1]
        self.scores = nn.Parameter(torch.zeros(rows, cols, dtype=weight.dtype, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """W' ``[out, in]``."""
        return cast(Tensor, _StraightThrough.apply(weight, self.scores, self.mask, self.block))


class Movement(Method):
    """Keep the weights that training moves away from zero."""

    Options = Options
    masks: dict[str, ScoredMask]  # type: ignore[assignment]  # narrower than the base's: mask_for makes them all

    @torch.no_grad()
    def mask_for(self, weight: Tensor) -> ScoredMask:
        """A mask whose scores are c times the mean |W| of each block over that of the matrix."""
        mask, (rows, cols) = ScoredMask(weight, self.target.block), self.target.block
        if self.options.start:
            # A matrix of zeros has a mean to divide by too.
            mean = weight.abs().mean().clamp_min(torch.finfo(weight.dtype).tiny)
            sizes = block_scores(weight.abs(), self.target.block) / (rows * cols)
            mask.scores.copy_(self.options.start * sizes / mean)
        return mask

    def learnt_scores(self) -> dict[str, nn.Parameter]:
        """All scores."""
        return {name: mask.scores for name, mask in self.masks.items()}

    def scores(self) -> dict[str, Tensor]:
        """The learnt ones themselves."""
        return dict(self.learnt_scores())


METHOD = Movement
