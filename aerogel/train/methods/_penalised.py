"""Base class of methods that regularize their scores: the strength of the penalty is set or controlled."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aerogel.errors import UsageError
from aerogel.train.density_controller import DensityController, controls_density
from aerogel.train.method import Method, SparsityConfig, StepContext
from aerogel.train.methods.movement import ScoredMask

__all__ = ["Regularized", "RegularizedOptions", "logit"]

# Initial lambda of the controller: the middle of the range in the movement-pruning paper, on a log scale.
_INITIAL = 100.0


@dataclass(frozen=True)
class RegularizedOptions:
    """Options of a method with a penalty.

    Attributes:
        lambda_: strength of the penalty; None if the run sets a density.
    """

    lambda_: float | None = None

    def __post_init__(self) -> None:
        if self.lambda_ is not None and self.lambda_ < 0:
            raise UsageError(f"option lambda={self.lambda_:g}: must be 0 or more")


class Regularized(Method):
    """Loss = task + lambda_t (1 / N) sum over the N matrices of mean(regularized(S)).

    A block is kept while its score is above a threshold, whose final value is `threshold`.
    """

    Options = RegularizedOptions
    density_is_outcome = True
    threshold: ClassVar[float]
    masks: dict[str, ScoredMask]  # type: ignore[assignment]  # narrower than the base's: mask_for creates them

    def __init__(
        self, matrices: Mapping[str, nn.Linear], sparsity: SparsityConfig, options: Any = None
    ) -> None:
        strength = (options or self.Options()).lambda_
        controlled = controls_density(sparsity, "lambda", strength)
        super().__init__(matrices, sparsity, options)
        self.strength = 0.0
        self.controller = (
            DensityController(sparsity.density, self.threshold, _INITIAL) if controlled else None
        )

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """Also check that the scores can reach the threshold."""
        super().check(steps)
        if self.controller:
            first_update = max(steps(0).begin, steps(0).warmup)
            earlier_rates = sum(steps(index).score_lr for index in range(first_update))
            start = (
                next(iter(self.score_parameters())).detach().flatten()[0]
            )  # all scores start at this value
            self.controller.check(float(start), steps(first_update), earlier_rates)

    @abstractmethod
    def regularized(self, scores: Tensor) -> Tensor:
        """Term of the penalty for each score, in the shape of `scores`; the penalty is its mean."""

    def scheduled(self, step: StepContext) -> float:
        """lambda_t / lambda, if lambda is set."""
        del step
        return 1.0

    def learned_scores(self) -> dict[str, nn.Parameter]:
        """The scores of all matrices."""
        return {name: mask.scores for name, mask in self.masks.items()}

    def before_step(self, step: StepContext) -> None:
        """Set lambda_t. With a controller, it is 0 before the schedule's descent."""
        if self.controller is None:
            self.strength = self.options.lambda_ * self.scheduled(step)
        else:
            self.strength = self.controller.strength if step.index >= step.begin else 0.0

    def penalty(self) -> Tensor:
        """lambda_t times the mean over matrices of the mean over scores."""
        means = [self.regularized(scores).mean() for scores in self.score_parameters()]
        return self.strength * torch.stack(means).mean()

    def after_step(self, step: StepContext, optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
        """Let the controller update lambda."""
        del optimizer
        return self.controller.after_step(step, self.score_parameters()) if self.controller else {}

    def log_values(self) -> dict[str, float]:
        """lambda_t, and the current density of the masks."""
        kept = sum(float(mask.mask.sum()) for mask in self.masks.values())
        return {"lambda": self.strength, "achieved": kept / sum(w.numel() for w in self.weights.values())}

    def state_dict(self) -> dict[str, Any]:
        """State of the controller."""
        return self.controller.state_dict() if self.controller else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""
        if self.controller:
            self.controller.load_state_dict(state)


def logit(p: float) -> float:
    """Score whose sigmoid is p."""
    return math.log(p / (1.0 - p))
