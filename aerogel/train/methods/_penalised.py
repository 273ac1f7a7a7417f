"""What the methods share that learn scores under a penalty: the penalty's strength, given or steered."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aerogel.errors import UsageError
from aerogel.train.density_controller import Controller, is_steered
from aerogel.train.method import Method, SparsityConfig, StepContext
from aerogel.train.methods.movement import ScoredMask

__all__ = ["Options", "Penalised"]

# Lambda to begin with where it is steered; the middle of what the movement-pruning paper sweeps, on a log scale.
_FIRST = 100.0


@dataclass(frozen=True)
class Options:
    """Options of a method with a penalty.

    Attributes:
        lambda_: strength of the penalty; None where a density is asked for.
    """

    lambda_: float | None = None

    def __post_init__(self) -> None:
        if self.lambda_ is not None and self.lambda_ < 0:
            raise UsageError(f"--option lambda={self.lambda_:g}: must not be negative")


class Penalised(Method):
    """Loss = task + lambda_t (1 / N) sum over the N matrices of mean(penalised(S)).

    A block is kept while its score is above a threshold, whose final value is `goal`.
    """

    Options = Options
    density_is_outcome = True
    goal: ClassVar[float]
    masks: dict[str, ScoredMask]  # type: ignore[assignment]  # narrower than the base's: mask_for makes them all

    def __init__(
        self, matrices: Mapping[str, nn.Linear], target: SparsityConfig, options: Any = None
    ) -> None:
        given = (options or self.Options()).lambda_
        steered = is_steered(target, "lambda", given)
        super().__init__(matrices, target, options)
        self.strength = 0.0
        self.controller = Controller(target.density, self.goal, _FIRST) if steered else None

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """Whether the scores can come as far as they have to, besides."""
        super().check(steps)
        if self.controller:
            look = max(steps(0).begin, steps(0).warmup)
            before = sum(steps(index).score_lr for index in range(look))
            start = next(iter(self.score_parameters())).detach().flatten()[0]  # where all scores begin
            self.controller.check(float(start), steps(look), before)

    @abstractmethod
    def penalised(self, scores: Tensor) -> Tensor:
        """What the penalty is the mean of, of the shape of `scores`."""

    def scheduled(self, step: StepContext) -> float:
        """lambda_t / lambda where lambda is given."""
        del step
        return 1.0

    def learnt_scores(self) -> dict[str, nn.Parameter]:
        """All scores."""
        return {name: mask.scores for name, mask in self.masks.items()}

    def before_step(self, step: StepContext) -> None:
        """Set lambda_t. A steered one acts from the first step of the schedule's descent."""
        if self.controller is None:
            self.strength = self.options.lambda_ * self.scheduled(step)
        else:
            self.strength = self.controller.strength if step.index >= step.begin else 0.0

    def penalty(self) -> Tensor:
        """lambda_t times the mean of the matrices' means."""
        means = [self.penalised(scores).mean() for scores in self.score_parameters()]
        return self.strength * torch.stack(means).mean()

    def after_step(self, step: StepContext, optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
        """Let the controller look."""
        del optimizer
        return self.controller.after_step(step, self.score_parameters()) if self.controller else {}

    def log_values(self) -> dict[str, float]:
        """lambda_t, and the density of the masks now."""
        kept = sum(float(mask.mask.sum()) for mask in self.masks.values())
        return {"lambda": self.strength, "achieved": kept / sum(w.numel() for w in self.weights.values())}

    def state_dict(self) -> dict[str, Any]:
        """The controller's."""
        return self.controller.state_dict() if self.controller else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if self.controller:
            self.controller.load_state_dict(state)


def logit(p: float) -> float:
    """The score whose sigmoid is p."""
    return math.log(p / (1.0 - p))
