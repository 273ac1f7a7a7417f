"""What a pruning method is: something that ranks weights, and a mask in front of each of them.

A method is attached to a model for one run. The mask acts through `torch.nn.utils.parametrize` on each Linear's
``weight``, so that the forward pass of any encoder sees W' = W * M and nothing else about the model changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from aerogel.sparse.masks import check_block, expand_blocks, top_masks

__all__ = ["Mask", "Method", "Target"]


@dataclass(frozen=True)
class Target:
    """What a run prunes to: density in (0, 1], (rows, cols) blocks, "local" or "global" scope."""

    density: float
    block: tuple[int, int] = (1, 1)
    scope: str = "local"


class Mask(nn.Module):
    """Parametrization W' = W * M of one weight ``[out, in]``; pruned weights get no gradient.

    `mask` is float32 (1 kept, 0 pruned): multiplying by booleans is ten times slower on a CPU.
    """

    mask: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """W' ``[out, in]``."""
        return weight * self.mask


class Method(ABC):
    """A pruning method attached to the matrices of one model.

    Args:
        matrices: Linear modules by the name of their weight; changed in place.
        target: what to prune to.

    Attributes:
        prunes: whether the method makes masks at all.
        weights: the trained parameters W ``[out, in]``, pruned entries included.
        masks: the parametrization in front of each of them.

    Raises:
        UsageError: the block does not divide a matrix.
    """

    prunes = True

    def __init__(self, matrices: Mapping[str, nn.Linear], target: Target) -> None:
        self.matrices = dict(matrices)
        self.target = target
        self.weights = {name: linear.weight for name, linear in self.matrices.items()}
        self.masks: dict[str, Mask] = {}
        for name, linear in self.matrices.items():
            check_block(tuple(linear.weight.shape), target.block, name)
        for name, linear in self.matrices.items():
            self.masks[name] = self.mask_for(linear.weight)
            parametrize.register_parametrization(linear, "weight", self.masks[name])

    def mask_for(self, weight: Tensor) -> Mask:
        """The parametrization that this method puts in front of a weight."""
        return Mask(weight)

    def score_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters that are trained at the score learning rate."""
        return ()

    @abstractmethod
    def scores(self) -> dict[str, Tensor]:
        """Per matrix, the current score of each block ``[out / r, in / c]``; the highest are kept."""

    @torch.no_grad()
    def update(self, density: float) -> None:
        """Set every mask to the blocks that `density` keeps now. Called before each step's forward pass."""
        if density >= 1.0:
            for mask in self.masks.values():
                mask.mask.fill_(1.0)
            return
        # numpy selects several times faster than torch on a CPU; on a GPU the scores stay where they are.
        scores = {name: _on_host(score.detach()) for name, score in self.scores().items()}
        for name, kept in top_masks(scores, density, scope=self.target.scope).items():
            whole = expand_blocks(kept, self.target.block)
            self.masks[name].mask.copy_(torch.from_numpy(whole) if isinstance(whole, np.ndarray) else whole)

    @torch.no_grad()
    def bake(self) -> dict[str, np.ndarray]:
        """Make the masks part of the weights and take the parametrizations away.

        Returns:
            Per matrix name, the boolean mask ``[out, in]``; its weight is exactly +0.0 wherever that is False.
        """
        self.update(self.target.density)
        result = {}
        for name, linear in self.matrices.items():
            kept = self.masks[name].mask.bool()
            parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)
            linear.weight.masked_fill_(~kept, 0.0)
            result[name] = kept.cpu().numpy()
        self.masks = {}
        return result


def _on_host(scores: Tensor) -> Any:
    return scores.numpy() if scores.device.type == "cpu" else scores
