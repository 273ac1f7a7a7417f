"""Base class of pruning methods: one mask per weight, and hooks around each optimizer step.

A method is attached to a model for one run. It registers a parametrization (`torch.nn.utils.parametrize`) on the
``weight`` of each Linear, so that the forward pass of any encoder uses W' = W * M. The model is not changed otherwise.

The loop calls these hooks in each step:

    before_step(step)              set masks and strengths for the forward pass
    penalty()                      term added to the loss; its gradients flow into W and S in a separate backward pass
    after_backward(step)           gradients are complete and not yet clipped
    after_step(step, optimizer)    the optimizer has updated W and S

State that a resumed run needs is stored in parameters and buffers of the masks, which are part of the model's state, or
returned by `Method.state_dict`.
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
    """Sparsity that a run prunes to: density in (0, 1], block (rows, cols), scope "local" or "global"."""

    density: float
    block: tuple[int, int] = (1, 1)
    scope: str = "local"


@dataclass(frozen=True)
class StepContext:
    """Position of an optimizer step in the schedules of the run.

    Attributes:
        index: index of the step, from 0.
        total: number of steps of the run.
        density: density of the schedule in this step.
        progress: completed fraction of the schedule's descent, measured in density, in [0, 1].
        lr: learning rate of the weights in this step.
        score_lr: learning rate of the scores in this step.
        begin: index of the first step of the descent.
        finish: index of the first step at the final density; `total` without such a step.
        warmup: number of steps in which the learning rates rise; afterwards they fall linearly to 0 at `total`.
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
    """Parametrization W' = W * M of one weight ``[out, in]``. Pruned weights get no gradient.

    `mask` is float32 (1 kept, 0 pruned): multiplication by booleans is ten times slower on a CPU.
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

    A method that ranks weights implements `scores` and nothing else. Other methods override the hooks.

    Args:
        matrices: Linear modules by the name of their weight; changed in place.
        sparsity: the sparsity to reach.
        options: an instance of `Options`; None for the defaults.

    Attributes:
        Options: frozen dataclass of the method's options, each with a default. Its `__post_init__` checks the values. A
            field `lambda_` is the option "lambda".
        prunes: whether the method computes masks.
        density_is_outcome: the density follows from a penalty. `sparsity.density` is then the density of all matrices
            together that the method adjusts the penalty for; 1 uses the strength set in the options.
        score_lr: default peak learning rate of `score_parameters`.
        weights: the trained parameters W ``[out, in]``, pruned entries included.
        masks: the parametrization of each weight.

    Raises:
        UsageError: the block does not divide a matrix.
    """

    Options: ClassVar[type[Any]] = NoOptions
    prunes: ClassVar[bool] = True
    density_is_outcome: ClassVar[bool] = False
    score_lr: ClassVar[float] = 1e-2

    def __init__(
        self, matrices: Mapping[str, nn.Linear], sparsity: SparsityConfig, options: Any = None
    ) -> None:
        self.matrices = dict(matrices)
        self.sparsity = sparsity
        self.options = self.Options() if options is None else options
        self.weights = {name: linear.weight for name, linear in self.matrices.items()}
        self.masks: dict[str, Mask] = {}
        for name, linear in self.matrices.items():
            check_block(tuple(linear.weight.shape), sparsity.block, name)
        for name, linear in self.matrices.items():
            self.masks[name] = self.mask_for(linear.weight)
            parametrize.register_parametrization(linear, "weight", self.masks[name])

    @classmethod
    def files_read(cls, options: Any) -> dict[str, Path]:
        """Files that affect the result, by name; a run resumes only if they are unchanged."""
        del options
        return {}

    def mask_for(self, weight: Tensor) -> Mask:
        """Create the parametrization of a weight."""
        return Mask(weight)

    def prepare(self, model: nn.Module) -> None:
        """Called once, before the optimizer is created: freeze parameters that the method does not train."""

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """Called once, before the first step: check that the density can be reached.

        Args:
            steps: returns the context of the step with a given index.

        Raises:
            UsageError: it cannot be reached; the message names a setting that would work.
        """
        del steps
        density, (rows, cols) = self.sparsity.density, self.sparsity.block
        for names in self.budget_groups():
            blocks = sum(self.weights[name].numel() for name in names) // (rows * cols)
            # The count rounds to 0, but at least one block is always kept.
            if density * blocks < 0.5:
                unit, smaller = "weights", ""
                if rows * cols > 1:
                    unit, smaller = f"{rows}x{cols} blocks", " or a smaller block"
                where = names[0] if len(names) == 1 else f"the {len(names)} matrices ranked with {names[0]}"
                raise UsageError(
                    f"density {density:g}: keeps 0 of the {blocks} {unit} of {where}; "
                    f"give at least {1 / blocks:.2g}{smaller}"
                )

    def budget_groups(self) -> list[list[str]]:
        """Groups of matrix names. The matrices of a group are ranked together and share one budget."""
        names = list(self.matrices)
        return [names] if self.sparsity.scope == "global" else [[name] for name in names]

    def learned_scores(self) -> dict[str, nn.Parameter]:
        """Scores that are trained parameters, ``[out / r, in / c]`` per matrix; empty by default."""
        return {}

    @classmethod
    def learns_scores(cls) -> bool:
        """Whether the method trains scores."""
        return cls.learned_scores is not Method.learned_scores

    def score_parameters(self) -> list[nn.Parameter]:
        """Parameters trained at the score learning rate."""
        return list(self.learned_scores().values())

    def scores(self) -> dict[str, Tensor]:
        """Current score of each block, ``[out / r, in / c]`` per matrix; the highest scores are kept."""
        raise NotImplementedError

    def before_step(self, step: StepContext) -> None:
        """Called before the forward pass. By default, updates the masks to the density of the schedule.

        Use random numbers only in this hook. Torch is seeded before it, so that all processes and a resumed run get
        the same numbers.
        """
        self.update(step.density)

    def penalty(self) -> Tensor | None:
        """A differentiable scalar to add to the loss of this step, or None."""
        return None

    def after_backward(self, step: StepContext) -> None:
        """Called when all gradients of the step are complete, before they are clipped."""

    def after_step(self, step: StepContext, optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
        """Called after the optimizer's step.

        Returns:
            Values for a separate line of the log; empty for no line.
        """
        del step, optimizer
        return {}

    def log_values(self) -> dict[str, float]:
        """Values that the method adds to the regular lines of the log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State outside of the masks' parameters and buffers: tensors, numbers and containers of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""

    @torch.no_grad()
    def update(self, density: float) -> None:
        """Set every mask to keep the highest scores, at `density`.

        Raises:
            TrainingError: a score is NaN.
        """
        if density >= 1.0:
            for mask in self.masks.values():
                mask.mask.fill_(1.0)
            return
        # On a CPU, numpy selects several times faster than torch. On a GPU, the scores stay there.
        scores = {name: _on_host(score.detach()) for name, score in self.scores().items()}
        try:
            masks = top_masks(scores, density, scope=self.sparsity.scope)
        except UsageError as error:
            name = next((name for name, score in scores.items() if bool((score != score).any())), None)
            if name is None:
                raise
            raise TrainingError(f"the scores of {name} contain NaN; lower lr or score_lr") from error
        for name, kept in masks.items():
            self.set_mask(name, kept)

    @torch.no_grad()
    def set_mask(self, name: str, kept: Any) -> None:
        """Set the mask of one matrix to `kept`, booleans ``[out / r, in / c]`` in an array or a tensor."""
        whole = expand_blocks(kept, self.sparsity.block)
        self.masks[name].mask.copy_(torch.from_numpy(whole) if isinstance(whole, np.ndarray) else whole)

    def finalize(self) -> None:
        """Compute the final masks. Called after the last step."""
        self.update(self.sparsity.density)

    @torch.no_grad()
    def fold(self) -> dict[str, np.ndarray]:
        """Finalize the masks, fold them into the weights and remove the parametrizations.

        Returns:
            Per matrix name, the boolean mask ``[out, in]``; the weight is exactly +0.0 where the mask is False.
        """
        self.finalize()
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
