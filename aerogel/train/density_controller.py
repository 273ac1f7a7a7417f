"""Control of the density where it follows from a penalty: the penalty's strength is adjusted during training.

A penalty pushes weights or scores s down, and values above a threshold are kept. The density itself tells nothing
until values cross the threshold. So the controller tracks the v-quantile q of s, v being the target density: the value
that has to be the smallest one kept. It must arrive at the threshold when the schedule ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aerogel.errors import UsageError
from aerogel.sparse.masks import kept_count, ranked
from aerogel.train.method import SparsityConfig, StepContext

__all__ = ["DensityController", "boundary", "bracket", "controls_density"]

# Updates during the schedule's descent. Each sorts all scores once.
_UPDATES = 100
# Change of log(strength) per unit of the error of the speed.
_GAIN = 1.0
_LARGEST_CHANGE = math.log(2.0)
# Shortest time to the threshold that is aimed at, in updates. Errors that remain when the descent ends are corrected
# after it.
_HORIZON = 10


def controls_density(sparsity: SparsityConfig, option: str, strength: float | None) -> bool:
    """Whether the run sets a density, so that a controller must find the strength of the penalty.

    Args:
        sparsity: of the run.
        option: name of the option that sets the strength.
        strength: its value; None if it is not set.

    Raises:
        UsageError: both the density and the strength are set, or neither.
    """
    if strength is not None and sparsity.density < 1.0:
        raise UsageError(
            f"density {sparsity.density:g} and option {option}={strength:g} exclude each other: the penalty decides "
            "the density; drop one of them"
        )
    if strength is None and sparsity.density >= 1.0:
        raise UsageError(f"this method needs a density below 1 or option {option}=X; set one of them")
    return strength is None


def _interval(step: StepContext) -> int:
    """Steps between two updates."""
    return max(1, (step.finish - step.begin) // _UPDATES)


def bracket(values: Iterable[Tensor], density: float) -> tuple[float | None, float]:
    """Largest value that is pruned and smallest value that is kept, at `density`; None first if all are kept."""
    flat = torch.cat([value.detach().reshape(-1) for value in values])
    pruned = flat.shape[0] - kept_count(density, flat.shape[0])
    smallest_kept = float(ranked(flat, pruned))
    if pruned == 0:
        return None, smallest_kept
    below = flat < smallest_kept
    # With ties at the boundary, some of the pruned values equal the smallest kept one.
    tied = int(below.sum()) < pruned
    return (smallest_kept if tied else float(flat.where(below, -torch.inf).max())), smallest_kept


def boundary(values: Iterable[Tensor], density: float) -> float:
    """Midpoint of `bracket`."""
    largest_pruned, smallest_kept = bracket(values, density)
    return smallest_kept if largest_pruned is None else (largest_pruned + smallest_kept) / 2


class DensityController:
    """Adjusts lambda so that the v-quantile q of all scores arrives at `threshold` when the schedule ends.

    Adam moves a score by at most its learning rate eta in one step. With one update every K steps:

        speed   = (q_t - q_{t-K}) / sum of eta over these K steps       in [-1, 1], nearly
        needed  = (threshold - q_t) / sum of eta over the remaining steps
        lambda <- lambda exp(speed - needed)                            at most doubled or halved

    The speed is controlled because lambda acts on it at once. Controlling the density itself is unstable: scores far
    above the threshold respond to lambda long before the density does.

    After the end of the schedule, each update adds threshold - q to all scores, which corrects the remaining error as
    if the threshold had moved. Training of the remaining weights continues with these scores.

    Args:
        density: v.
        threshold: scores above it are kept at the end.
        strength: initial lambda.

    Attributes:
        strength: current lambda.
    """

    def __init__(self, density: float, threshold: float, strength: float) -> None:
        self.density, self.threshold, self.strength = density, threshold, strength
        self._last_quantile: float | None = None
        self._rates = 0.0

    def check(self, quantile: float, step: StepContext, earlier_rates: float = 0.0) -> None:
        """Check that `quantile` can reach the threshold in the remaining steps.

        Args:
            quantile: current q.
            step: step of the first update.
            earlier_rates: sum of the learning rates of the steps before it.

        Raises:
            UsageError: it cannot; the message gives the factor by which the learning rate must grow.
        """
        distance, limit = abs(self.threshold - quantile), earlier_rates + self._remaining_rates(step)
        if distance > limit:
            factor = math.ceil(100 * distance / limit) / 100  # rounded up, so that the advice is sufficient
            raise UsageError(
                f"density {self.density:g} cannot be reached: scores must move by {distance:.3g} and can move by at "
                f"most {limit:.3g} before the final warm-up; raise score_lr {factor:g} times, or epochs or steps"
            )

    @torch.no_grad()
    def after_step(self, step: StepContext, scores: Sequence[Tensor]) -> Mapping[str, float]:
        """Update `strength` if an update is due; after the end of the schedule, also shift `scores` in place.

        Returns:
            Values for the log: "lambda", "quantile" and "threshold"; empty if nothing changed.

        Raises:
            UsageError: the scores cannot reach the threshold in the remaining steps of the schedule.
        """
        self._rates += step.score_lr
        last_step = step.index == step.total - 1
        # The remaining rates can be computed only after the warm-up, when the learning rate falls linearly.
        if step.index < max(step.begin, step.warmup):
            return {}
        if (step.index - step.begin) % _interval(step) and not last_step:
            return {}
        quantile = boundary(scores, self.density)
        last_quantile, rates = self._last_quantile, self._rates
        self._last_quantile, self._rates = quantile, 0.0
        if last_quantile is None:
            self.check(quantile, step)
            return {}
        speed = (quantile - last_quantile) / rates
        needed = min(1.0, max(-1.0, (self.threshold - quantile) / self._remaining_rates(step)))
        change = _GAIN * (speed - needed)
        self.strength *= math.exp(min(_LARGEST_CHANGE, max(-_LARGEST_CHANGE, change)))
        values = {"lambda": self.strength, "quantile": quantile, "threshold": self.threshold}
        if step.index >= step.finish or last_step:
            for score in scores:
                score.add_(self.threshold - quantile)
            self._last_quantile = self.threshold
        return values

    def _remaining_rates(self, step: StepContext) -> float:
        """Sum of the learning rates of the remaining steps: eta falls linearly to 0 at the end of the run."""
        steps = max(step.finish - step.index, _HORIZON * _interval(step))
        rest = max(1, step.total - step.index)
        steps = min(steps, rest)
        return max(step.score_lr, 1e-12) * (steps - steps * steps / (2 * rest))

    def state_dict(self) -> dict[str, Any]:
        """State that the next update depends on."""
        return {"strength": self.strength, "last_quantile": self._last_quantile, "rates": self._rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""
        self.strength = state["strength"]
        self._last_quantile, self._rates = state["last_quantile"], state["rates"]
