"""Static model pruning: the weights stay as they are, only scores learn (Jiang et al. 2023, section 3, "SMP-S").

Forward:   W'_ij = W_ij M_ij,  M = Top_k(S) with k from a budget
Backward:  as hard movement: dL/dS_b = sum over (i, j) in block b of dL/dW'_ij W_ij; W is frozen
Budgets:   of the L matrices of one type (all queries, say) matrix l keeps a share of what the type keeps in all, in
           proportion to R_l = sum sigmoid(S_l):  v_l = v_t L R_l / (R_1 + ... + R_L) where all are of one size
Penalty:   400 (v_t / v_f) (1 / N) sum over the N matrices of mean(sigmoid(S)),  v being the part pruned

so that the penalty's weight rises from 0 to 400 with the schedule. S starts as in movement pruning and learns at 2e-2.
No matrix keeps more than all it has; what it cannot take goes to the others of its type.

The budgets take the place of both scopes. All of the pre-trained part is frozen: a task is a mask over a shared model.
The authors freeze the head too, which they make of the embeddings of label words. Here it is drawn at random, as the
pooler is, so both learn, at the weights' learning rate; `head=false` freezes them as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aerogel.hf.encoder import pretrained_part
from aerogel.sparse.masks import kept_count, top_mask
from aerogel.train.method import StepContext
from aerogel.train.methods import movement

__all__ = ["METHOD", "Options", "StaticPruning", "shares"]

_LAMBDA = 400.0


@dataclass(frozen=True)
class Options(movement.Options):
    """Options of static model pruning.

    Attributes:
        head: train the head and the pooler.
        start: as in movement pruning.
    """

    head: bool = True


class StaticPruning(movement.Movement):
    """Find the part of a frozen model that does the task."""

    Options = Options
    score_lr = 2e-2
    _weight = 0.0

    def prepare(self, model: nn.Module) -> None:
        """Freeze what is not a score, a head or a pooler."""
        scores = {id(parameter) for parameter in self.score_parameters()}
        for name, parameter in model.named_parameters():
            if id(parameter) not in scores and (pretrained_part(model, name) or not self.options.head):
                parameter.requires_grad_(False)

    def before_step(self, step: StepContext) -> None:
        """Set the masks, and the weight of the penalty."""
        super().before_step(step)
        self._weight = _LAMBDA * step.progress

    def penalty(self) -> Tensor:
        """Its weight times the mean of the matrices' means."""
        return self._weight * torch.stack([s.sigmoid().mean() for s in self.score_parameters()]).mean()

    def ranked_together(self) -> list[list[str]]:
        """The matrices of each type."""
        types: dict[str, list[str]] = {}
        for name in self.matrices:
            types.setdefault(_type(name), []).append(name)
        return list(types.values())

    @torch.no_grad()
    def update(self, density: float) -> None:
        """Give each matrix its budget and keep its highest scores."""
        for names in self.ranked_together():
            scores = [self.masks[name].scores.detach() for name in names]
            sizes = [s.numel() for s in scores]
            sums = [float(s.sigmoid().sum(dtype=torch.float64)) for s in scores]
            for name, score, keep in zip(names, scores, shares(sums, sizes, density), strict=True):
                self.set_mask(name, top_mask(score, keep))


def shares(weights: list[float], sizes: list[int], density: float) -> list[int]:
    """How many blocks each matrix of a type keeps.

    Args:
        weights: R_l of each matrix, positive.
        sizes: blocks of each.
        density: v_t, of all of them together.

    Returns:
        Counts in proportion to `weights`, none above its size, that sum to what `density` keeps of all blocks; what is
        left by rounding down goes to the largest fractions, the earlier first.
    """
    total = kept_count(density, sum(sizes))
    counts = [float(size) for size in sizes]
    free, left = set(range(len(sizes))), float(total)
    while free:
        scale = left / sum(weights[i] for i in free)
        full = {i for i in free if weights[i] * scale >= sizes[i]}
        if not full:
            for i in free:
                counts[i] = weights[i] * scale
            break
        left -= sum(sizes[i] for i in full)
        free -= full
    result = [int(count) for count in counts]
    order = sorted(range(len(sizes)), key=lambda i: (result[i] - counts[i], i))
    for i in order[: total - sum(result)]:
        result[i] += 1
    return result


def _type(name: str) -> str:
    """The name of a matrix without the number of its layer."""
    return ".".join(part for part in name.split(".") if not part.isdigit())


METHOD = StaticPruning
