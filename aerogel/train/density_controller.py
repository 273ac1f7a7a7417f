"""Reaching a density that a penalty decides: the penalty's strength is steered while the run lasts.

A method whose weights or scores s are pushed down by a penalty keeps what stays above a threshold. What is watched is
not the density, which says nothing until values cross the threshold, but the value that will have to be the last one
kept: the v-quantile q of s, v being the density asked for. It must arrive at the threshold when the schedule ends.
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

__all__ = ["Controller", "boundary", "bracket", "is_steered"]

# Looks at the scores during the schedule's descent. Each sorts all scores once.
_LOOKS = 100
# Of the difference between the speed wanted and the speed found, as parts of the full one, to the strength's logarithm.
_GAIN = 1.0
_LARGEST_CHANGE = math.log(2.0)
# Where no end is near, arrive in so many looks: what remains at the end of the descent is corrected after it.
_HORIZON = 10


def is_steered(target: SparsityConfig, option: str, raw: float | None) -> bool:
    """Whether a density is asked for, so that the strength of the penalty is to be found.

    Args:
        target: of the run.
        option: name of the option that sets the strength.
        raw: its value; None where it is not given.

    Raises:
        UsageError: both are given, or neither.
    """
    if raw is not None and target.density < 1.0:
        raise UsageError(
            f"--option {option}={raw:g} decides the density, so --density {target.density:g} cannot be asked for "
            "too; give one of them"
        )
    if raw is None and target.density >= 1.0:
        raise UsageError(
            f"the density follows from a penalty; give --density below 1, or --option {option}=X"
        )
    return raw is None


def _interval(step: StepContext) -> int:
    """Steps between two looks."""
    return max(1, (step.finish - step.begin) // _LOOKS)


def bracket(values: Iterable[Tensor], density: float) -> tuple[float | None, float]:
    """The largest value that is not among the `density` largest ones, None if all are, and the smallest of these."""
    flat = torch.cat([value.detach().reshape(-1) for value in values])
    gone = flat.shape[0] - kept_count(density, flat.shape[0])
    least = float(ranked(flat, gone))
    if gone == 0:
        return None, least
    below = flat < least
    # Fewer are below than go where some of those that go equal one that stays.
    tied = int(below.sum()) < gone
    return (least if tied else float(flat.where(below, -torch.inf).max())), least


def boundary(values: Iterable[Tensor], density: float) -> float:
    """Midway between the two of `bracket`."""
    below, least = bracket(values, density)
    return least if below is None else (below + least) / 2


class Controller:
    """Steers lambda so that the v-quantile q of all scores reaches `goal` when the schedule ends.

    With eta the learning rate of the scores, which bounds what Adam moves one of them in a step, and one look every K
    steps:

        found   = (q_t - q_{t-K}) / sum of eta over these K steps          speed of q, in [-1, 1] or nearly so
        wanted  = (goal - q_t) / sum of eta over the steps that are left
        lambda <- lambda exp(found - wanted)                               at most doubled or halved

    Speeds are what lambda acts on, so holding them to what is wanted is stable where holding the density is not: scores
    far above the threshold answer lambda by moving, long before the density does.

    What is left over when the schedule has ended is taken away: each look then adds goal - q to all scores, which is to
    move the threshold by as much. The survivors are trained on with that.

    Args:
        density: v.
        goal: the threshold that scores are compared with in the end.
        strength: lambda to begin with.

    Attributes:
        strength: lambda now.
    """

    def __init__(self, density: float, goal: float, strength: float) -> None:
        self.density, self.goal, self.strength = density, goal, strength
        self._last: float | None = None
        self._moved = 0.0

    def check(self, found: float, step: StepContext, before: float = 0.0) -> None:
        """Whether the boundary can come from `found` to the goal.

        Args:
            found: where it is now.
            step: of the first look.
            before: learning rates of the steps until then, summed.

        Raises:
            UsageError: it cannot; the message names the learning rate that would do.
        """
        way, reach = abs(self.goal - found), before + self._reach(step)
        if way > reach:
            factor = math.ceil(100 * way / reach) / 100  # rounded down it would not do
            raise UsageError(
                f"--density {self.density:g} cannot be reached: scores have to move by {way:.3g} and can by "
                f"{reach:.3g} before the final warm-up; raise --score-lr {factor:g} times, or "
                "--epochs or --steps"
            )

    @torch.no_grad()
    def after_step(self, step: StepContext, scores: Sequence[Tensor]) -> Mapping[str, float]:
        """Look, if it is time, and set `strength`; change `scores` where the schedule has ended.

        Returns:
            What changed, for the log.

        Raises:
            UsageError: the scores cannot reach the goal in the steps that the schedule has.
        """
        self._moved += step.score_lr
        last_step = step.index == step.total - 1
        # While the learning rate rises, it does not say how far scores will get.
        if step.index < max(step.begin, step.warmup):
            return {}
        if (step.index - step.begin) % _interval(step) and not last_step:
            return {}
        found = boundary(scores, self.density)
        last, moved = self._last, self._moved
        self._last, self._moved = found, 0.0
        if last is None:
            self.check(found, step)
            return {}
        reach = self._reach(step)
        wanted = min(1.0, max(-1.0, (self.goal - found) / reach))
        change = _GAIN * ((found - last) / moved - wanted)
        self.strength *= math.exp(min(_LARGEST_CHANGE, max(-_LARGEST_CHANGE, change)))
        noted = {"lambda": self.strength, "quantile": found, "goal": self.goal}
        if step.index >= step.finish or last_step:
            for score in scores:
                score.add_(self.goal - found)
            self._last = self.goal
        return noted

    def _reach(self, step: StepContext) -> float:
        """The learning rates of the steps left, summed: eta falls linearly to 0 at the end of the run."""
        left = max(step.finish - step.index, _HORIZON * _interval(step))
        rest = max(1, step.total - step.index)
        left = min(left, rest)
        return max(step.score_lr, 1e-12) * (left - left * left / (2 * rest))

    def state_dict(self) -> dict[str, Any]:
        """What the next look depends on."""
        return {"strength": self.strength, "last": self._last, "moved": self._moved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.strength, self._last, self._moved = state["strength"], state["last"], state["moved"]
