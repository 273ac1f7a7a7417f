"""What a pruning method is: a mask in front of each weight, and what it does around each optimizer step.

A method is attached to a model for one run. The mask acts through `torch.nn.utils.parametrize` on each Linear's
``weight``, so that the forward pass of any encoder sees W' = W * M and nothing else about the model changes.

The loop calls, in each step:

    before_step(step)              masks and schedules for the forward pass
    penalty()                      added to the task's loss, by a backward pass of its own; gradients flow into W and S
    after_backward(step)           gradients are complete and not yet clipped
    after_step(step, optimizer)    the optimizer has moved W and S

What must outlive a kill is held in the masks' parameters and buffers, which are part of the model's state, or given by
`Method.state_dict`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from aerogel.errors import TrainingError, UsageError
from aerogel.sparse.masks import check_block, expand_blocks, top_masks
from aerogel.system.options import NoOptions

__all__ = ["Mask", "Method", "SparsityConfig", "StepContext"]


@dataclass(frozen=True)
class SparsityConfig:
    """What a run prunes to: density in (0, 1], (rows, cols) blocks, "local" or "global" scope."""

    density: float
    block: tuple[int, int] = (1, 1)
    scope: str = "local"


@dataclass(frozen=True)
class StepContext:
    """One optimizer step as a method sees it.

    Attributes:
        index: of the step, from 0.
        total: steps of the run.
        density: what the schedule keeps now.
        progress: part of the schedule's way from its first to its last value that is done, in [0, 1].
        lr: learning rate of the weights in this step.
        score_lr: learning rate of the scores in this step.
        begin: index of the first step of the schedule's descent.
        finish: index of the first step at the schedule's last value; `total` if there is none.
        warmup: steps in which the learning rates rise; from then on they fall linearly to 0 at `total`.
    """

    index: int
    total: int
    density: float
    progress: float
    lr: float
    score_lr: float = 0.0
    begin: int = 0
    finish: int = 0
    warmup: int = 0


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


class Method:
    """A pruning method attached to the matrices of one model.

    A method that ranks weights gives `scores` and no more. Others override what they do differently.

    Args:
        matrices: Linear modules by the name of their weight; changed in place.
        target: what to prune to.
        options: an `Options` of this method; None for its defaults.

    Attributes:
        Options: frozen dataclass of the method's own options, each with a default. Its `__post_init__` refuses values
            that cannot be meant; a field `lambda_` is the option "lambda".
        prunes: whether the method makes masks at all.
        density_is_outcome: the density follows from a penalty. `target.density` is then what a controller steers to
            over all matrices together; 1 leaves the penalty as the options say.
        score_lr: peak learning rate of `score_parameters` where the run gives none.
        weights: the trained parameters W ``[out, in]``, pruned entries included.
        masks: the parametrization in front of each of them.

    Raises:
        UsageError: the block does not divide a matrix.
    """

    Options: ClassVar[type[Any]] = NoOptions
    prunes: ClassVar[bool] = True
    density_is_outcome: ClassVar[bool] = False
    score_lr: ClassVar[float] = 1e-2

    def __init__(
        self, matrices: Mapping[str, nn.Linear], target: SparsityConfig, options: Any = None
    ) -> None:
        self.matrices = dict(matrices)
        self.target = target
        self.options = self.Options() if options is None else options
        self.weights = {name: linear.weight for name, linear in self.matrices.items()}
        self.masks: dict[str, Mask] = {}
        for name, linear in self.matrices.items():
            check_block(tuple(linear.weight.shape), target.block, name)
        for name, linear in self.matrices.items():
            self.masks[name] = self.mask_for(linear.weight)
            parametrize.register_parametrization(linear, "weight", self.masks[name])

    @classmethod
    def reads(cls, options: Any) -> dict[str, Path]:
        """Files that decide the outcome besides model and data, by what they are: a run is not resumed with others."""
        del options
        return {}

    def mask_for(self, weight: Tensor) -> Mask:
        """The parametrization that this method puts in front of a weight."""
        return Mask(weight)

    def prepare(self, model: nn.Module) -> None:
        """Called once, before the optimizer is made: freeze what this method does not train."""

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """Called once, before the first step: refuse a density of which it is known that it cannot be reached.

        Args:
            steps: gives the step of an index.

        Raises:
            UsageError: it cannot; the message names what would do.
        """
        del steps
        density, (rows, cols) = self.target.density, self.target.block
        for names in self.ranked_together():
            blocks = sum(self.weights[name].numel() for name in names) // (rows * cols)
            # Rounded to nothing, and one is kept all the same.
            if density * blocks < 0.5:
                what, smaller = "weights", ""
                if rows * cols > 1:
                    what, smaller = f"{rows}x{cols} blocks", " or a smaller --block"
                where = names[0] if len(names) == 1 else f"the {len(names)} matrices ranked with {names[0]}"
                raise UsageError(
                    f"--density {density:g} leaves none of the {blocks} {what} of {where}; "
                    f"give at least {1 / blocks:.2g}{smaller}"
                )

    def ranked_together(self) -> list[list[str]]:
        """Names of the matrices that share one budget, for each budget."""
        names = list(self.matrices)
        return [names] if self.target.scope == "global" else [[name] for name in names]

    def learnt_scores(self) -> dict[str, nn.Parameter]:
        """Per matrix, the score of each block ``[out / r, in / c]``, where scores are parameters."""
        return {}

    @classmethod
    def learns_scores(cls) -> bool:
        """Whether there are any."""
        return cls.learnt_scores is not Method.learnt_scores

    def score_parameters(self) -> list[nn.Parameter]:
        """Parameters that are trained at the score learning rate."""
        return list(self.learnt_scores().values())

    def scores(self) -> dict[str, Tensor]:
        """Per matrix, the current score of each block ``[out / r, in / c]``; the highest are kept."""
        raise NotImplementedError

    def before_step(self, step: StepContext) -> None:
        """Called before the forward pass: by default the masks are made anew at the density of the schedule.

        Here, and only here, several processes draw the same random numbers, and a resumed run those it drew before.
        """
        self.update(step.density)

    def penalty(self) -> Tensor | None:
        """A differentiable scalar to add to the loss of this step, or None."""
        return None

    def after_backward(self, step: StepContext) -> None:
        """Called when all gradients of this step are there, before they are clipped."""

    def after_step(self, step: StepContext, optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
        """Called after the optimizer's step.

        Returns:
            Values for a line of its own in the log; empty, as mostly, for none.
        """
        del step, optimizer
        return {}

    def log_values(self) -> dict[str, float]:
        """What the method adds to the log's regular lines."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State that is in no parameter or buffer of the masks: tensors, numbers and containers of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    @torch.no_grad()
    def update(self, density: float) -> None:
        """Set every mask to the highest scores, at `density`.

        Raises:
            TrainingError: a score is NaN.
        """
        if density >= 1.0:
            for mask in self.masks.values():
                mask.mask.fill_(1.0)
            return
        # numpy selects several times faster than torch on a CPU; on a GPU the scores stay where they are.
        scores = {name: _on_host(score.detach()) for name, score in self.scores().items()}
        try:
            masks = top_masks(scores, density, scope=self.target.scope)
        except UsageError as error:
            name = next((name for name, score in scores.items() if bool((score != score).any())), None)
            if name is None:
                raise
            raise TrainingError(f"the scores of {name} are not numbers; lower --lr") from error
        for name, kept in masks.items():
            self.set_mask(name, kept)

    @torch.no_grad()
    def set_mask(self, name: str, kept: Any) -> None:
        """Set the mask of one matrix to `kept`, booleans ``[out / r, in / c]`` as array or tensor."""
        whole = expand_blocks(kept, self.target.block)
        self.masks[name].mask.copy_(torch.from_numpy(whole) if isinstance(whole, np.ndarray) else whole)

    def settle(self) -> None:
        """Make the masks final. Called once, after the last step."""
        self.update(self.target.density)

    @torch.no_grad()
    def bake(self) -> dict[str, np.ndarray]:
        """Settle, make the masks part of the weights and take the parametrizations away.

        Returns:
            Per matrix name, the boolean mask ``[out, in]``; its weight is exactly +0.0 wherever that is False.
        """
        self.settle()
        result = {}
        for name, linear in self.matrices.items():
            kept = self.masks[name].eval().mask.bool()
            parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)
            linear.weight.masked_fill_(~kept, 0.0)
            result[name] = kept.cpu().numpy()
        self.masks = {}
        return result


def _on_host(scores: Tensor) -> Any:
    return scores.numpy() if scores.device.type == "cpu" else scores
