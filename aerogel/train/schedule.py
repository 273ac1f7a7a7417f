"""Schedules of the density and the learning rate, as functions of the optimizer step.

Steps count from 0. The value for step t is used in the forward and backward pass of that step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aerogel.errors import UsageError

__all__ = ["Cubic", "check_warmup", "linear_rate", "warmup_steps"]


@dataclass(frozen=True)
class Cubic:
    """Cubic density schedule of gradual pruning (Zhu and Gupta 2017; Sanh et al. 2020, section 4).

    With W = `warmup` learning-rate warm-up steps, T = `total` steps, i = `initial`, f = `final`:

        v_t = v_i                                                            for t < i W
        v_t = v_f + (v_i - v_f) (1 - (t - i W) / (T - (i + f) W)) ^ 3        between
        v_t = v_f                                                            for t > T - f W

    Attributes:
        start: initial density v_i.
        end: final density v_f.
        total: optimizer steps T of the run.
        warmup: learning-rate warm-up steps W.
        initial: length of the phase at the initial density, in units of W.
        final: length of the phase at the final density, in units of W.

    Raises:
        UsageError: no steps remain for the descent.
    """

    start: float
    end: float
    total: int
    warmup: int
    initial: float
    final: float

    def __post_init__(self) -> None:
        if self.initial < 0 or self.final < 0:
            raise UsageError(
                f"initial_warmup {self.initial:g}, final_warmup {self.final:g}: both must be 0 or more"
            )
        if self.warmup * (self.initial + self.final) >= self.total:
            raise UsageError(
                f"{self.warmup} warm-up steps x ({self.initial:g} initial + {self.final:g} final) must be fewer than "
                f"the {self.total} steps of the run; lower warmup, initial_warmup or final_warmup, or raise epochs or "
                "steps"
            )

    @property
    def descent(self) -> tuple[float, float]:
        """First and last point of the descent, in steps: i W and T - f W."""
        return self.initial * self.warmup, self.total - self.final * self.warmup

    def density(self, step: int) -> float:
        """v_t, in [end, start]."""
        remaining = self._remaining(step)
        return self.start if remaining == 1.0 else self.end + (self.start - self.end) * remaining

    def progress(self, step: int) -> float:
        """(v_i - v_t) / (v_i - v_f): 0 before the descent, 1 from T - f W on; defined for v_i = v_f too."""
        return 1.0 - self._remaining(step)

    def _remaining(self, step: int) -> float:
        begin, finish = self.descent
        if step < begin:
            return 1.0
        if step >= finish:
            return 0.0
        return (1.0 - (step - begin) / (finish - begin)) ** 3


def check_warmup(warmup: float) -> None:
    """Check `warmup`, a fraction of the run below 1 or a number of steps.

    Raises:
        UsageError: it is negative, not finite, or above 1 and not whole.
    """
    if not 0 <= warmup < math.inf or (warmup > 1 and not warmup.is_integer()):
        raise UsageError(f"warmup {warmup:g}: must be a fraction below 1 or a whole number of steps")


def warmup_steps(warmup: float, total: int) -> int:
    """Number of warm-up steps: `warmup` times `total` if below 1, else `warmup`.

    Raises:
        UsageError: `warmup` is out of range, or not fewer steps than the run has.
    """
    check_warmup(warmup)
    steps = int(warmup * total) if warmup < 1 else int(warmup)
    if steps >= total:
        raise UsageError(
            f"warmup {steps}: must be fewer than the {total} steps of the run; lower it or raise epochs or steps"
        )
    return steps


def linear_rate(step: int, warmup: int, total: int) -> float:
    """Learning-rate factor: rises linearly from 0 over `warmup` steps, then falls linearly to 0 at `total`."""
    if step < warmup:
        return step / warmup
    return (total - step) / (total - warmup)
