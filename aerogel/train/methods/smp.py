"""Static model pruning: weights are frozen, only scores are trained (Jiang et al. 2023, section 3, "SMP-S").

Forward:   W'_ij = W_ij M_ij,  M = Top_k(S) with k from a budget
Backward:  as hard movement: dL/dS_b = sum over (i, j) in block b of dL/dW'_ij W_ij; W is frozen
Budgets:   the L matrices of one type (all queries, for example) share one budget. Matrix l gets a fraction of it in
           proportion to R_l = sum sigmoid(S_l):  v_l = v_t L R_l / (R_1 + ... + R_L) for matrices of equal size
Penalty:   400 (v_t / v_f) (1 / N) sum over the N matrices of mean(sigmoid(S)),  here with v the fraction pruned

so that the weight of the penalty rises from 0 to 400 with the schedule. S starts as in movement pruning and is trained
at 2e-2. If the budget of a matrix exceeds its size, the excess goes to the other matrices of its type.

The budgets replace both scopes. The pre-trained part is frozen entirely: a task is a mask over a shared model. The
authors also freeze the head, which they build from the embeddings of label words. Here the head and the pooler are
initialized at random, so both are trained, at the learning rate of the weights; `head=false` freezes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aerogel.hf.encoder import pretrained_part
from aerogel.sparse.masks import kept_count, top_mask
from aerogel.train.method import StepContext
from aerogel.train.methods import movement

__all__ = ["METHOD", "SmpOptions", "StaticPruning", "block_budgets"]

_LAMBDA = 400.0


@dataclass(frozen=True)
class SmpOptions(movement.MovementOptions):
    """Options of static model pruning.

    Attributes:
        head: whether to train the head and the pooler.
        start: see `MovementOptions`.
    """

    head: bool = True


class StaticPruning(movement.Movement):
    """Find the weights of a frozen model that solve the task."""

    Options = SmpOptions
    score_lr = 2e-2
    _strength = 0.0

    def prepare(self, model: nn.Module) -> None:
        """Freeze everything except scores, head and pooler."""
        scores = {id(parameter) for parameter in self.score_parameters()}
        for name, parameter in model.named_parameters():
            if id(parameter) not in scores and (pretrained_part(model, name) or not self.options.head):
                parameter.requires_grad_(False)

    def before_step(self, step: StepContext) -> None:
        """Set the masks and the strength of the penalty."""
        super().before_step(step)
        self._strength = _LAMBDA * step.progress

    def penalty(self) -> Tensor:
        """Strength times the mean over matrices of the mean over scores."""
        return self._strength * torch.stack([s.sigmoid().mean() for s in self.score_parameters()]).mean()

    def budget_groups(self) -> list[list[str]]:
        """The matrices of each type share a budget."""
        types: dict[str, list[str]] = {}
        for name in self.matrices:
            types.setdefault(_type(name), []).append(name)
        return list(types.values())

    @torch.no_grad()
    def update(self, density: float) -> None:
        """Compute the budget of each matrix and keep its highest scores."""
        for names in self.budget_groups():
            scores = [self.masks[name].scores.detach() for name in names]
            sizes = [s.numel() for s in scores]
            sums = [float(s.sigmoid().sum(dtype=torch.float64)) for s in scores]
            for name, score, keep in zip(names, scores, block_budgets(sums, sizes, density), strict=True):
                self.set_mask(name, top_mask(score, keep))


def block_budgets(weights: list[float], sizes: list[int], density: float) -> list[int]:
    """Number of blocks that each matrix of a type keeps.

    Args:
        weights: R_l of each matrix, positive.
        sizes: number of blocks of each matrix.
        density: v_t of all matrices together.

    Returns:
        Counts in proportion to `weights`, none above its size; their sum is `kept_count` of all blocks. Counts are
        rounded down, then those with the largest fractional parts are raised by one, the earlier first.
    """
    total = kept_count(density, sum(sizes))
    counts = [float(size) for size in sizes]
    free, remaining = set(range(len(sizes))), float(total)
    while free:
        scale = remaining / sum(weights[i] for i in free)
        full = {i for i in free if weights[i] * scale >= sizes[i]}
        if not full:
            for i in free:
                counts[i] = weights[i] * scale
            break
        remaining -= sum(sizes[i] for i in full)
        free -= full
    result = [int(count) for count in counts]
    order = sorted(range(len(sizes)), key=lambda i: (result[i] - counts[i], i))
    for i in order[: total - sum(result)]:
        result[i] += 1
    return result


def _type(name: str) -> str:
    """Name of a matrix without the index of its layer."""
    return ".".join(part for part in name.split(".") if not part.isdigit())


METHOD = StaticPruning
