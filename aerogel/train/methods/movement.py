"""Hard movement pruning: M = Top_v(S), with scores learned by a straight-through estimator (Sanh et al. 2020).

Forward:   W'_ij = W_ij M_ij,  M = Top_v(S)
Backward:  dL/dW_ij = dL/dW'_ij M_ij,  dL/dS_b = sum over (i, j) in block b of dL/dW'_ij W_ij

S starts at 0 and has one value per block (per weight for 1x1 blocks). The score of a weight rises while training moves
the weight away from zero. Pruned weights keep their value and their scores are still trained, so they can return.

Not in the paper: S can start at c |W_b| / mean |W|, so that magnitudes decide until the scores have been trained.
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

__all__ = ["METHOD", "Movement", "MovementOptions", "ScoredMask"]


@dataclass(frozen=True)
class MovementOptions:
    """Options of movement pruning.

    Attributes:
        start: c; the initial scores are c |W_b| / mean |W|. 0 in the paper.
    """

    start: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < math.inf:
            raise UsageError(f"option start={self.start:g}: must be 0 or more, and finite")


class _StraightThrough(torch.autograd.Function):
    """W' = W * M in the forward pass; the identity through Top_v in the backward pass."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor, block: tuple[int, int]) -> Tensor:
        del scores  # an input so that backward can return their gradient
        ctx.save_for_backward(weight, mask)
        ctx.block = block
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, mask = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * mask, block_scores(gradient * weight, ctx.block), None, None


class ScoredMask(Mask):
    """A mask with one learned score per block ``[out / r, in / c]``."""

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

    Options = MovementOptions
    masks: dict[str, ScoredMask]  # type: ignore[assignment]  # narrower than the base's: mask_for creates them

    @torch.no_grad()
    def mask_for(self, weight: Tensor) -> ScoredMask:
        """Create a mask with initial scores c |W_b| / mean |W|, |W_b| being the mean over the block."""
        mask, (rows, cols) = ScoredMask(weight, self.sparsity.block), self.sparsity.block
        if self.options.start:
            # Avoid division by zero for a matrix of zeros.
            mean = weight.abs().mean().clamp_min(torch.finfo(weight.dtype).tiny)
            sizes = block_scores(weight.abs(), self.sparsity.block) / (rows * cols)
            mask.scores.copy_(self.options.start * sizes / mean)
        return mask

    def learned_scores(self) -> dict[str, nn.Parameter]:
        """The scores of all matrices."""
        return {name: mask.scores for name, mask in self.masks.items()}

    def scores(self) -> dict[str, Tensor]:
        """The learned scores."""
        return dict(self.learned_scores())


METHOD = Movement
