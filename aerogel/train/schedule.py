"""The two schedules of a run, as plain functions of the optimizer step.

Steps count from 0; a value for step t holds for the forward and backward pass of that step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aerogel.errors import UsageError

__all__ = ["Cubic", "check_warmup", "linear_rate", "warmup_steps"]


@dataclass(frozen=True)
class Cubic:
    """The cubic density schedule of gradual pruning (Zhu and Gupta 2017; Sanh et al. 2020, section 4).

    With W = `warmup` learning-rate warm-up steps, T = `total` steps, i = `initial`, f = `final`:

        v_t = v_i                                                            for t < i W
        v_t = v_f + (v_i - v_f) (1 - (t - i W) / (T - (i + f) W)) ^ 3        between
        v_t = v_f                                                            for t > T - f W

    Attributes:
        start: density v_i before pruning begins.
        end: density v_f that the run ends with.
        total: optimizer steps of the run.
        warmup: learning-rate warm-up steps, the unit of `initial` and `final`.
        initial: warm-ups before pruning begins.
        final: warm-ups, at the end, at the final density.

    Raises:
        UsageError: the warm-ups leave no step for the descent.
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
                f"--initial-warmup {self.initial:g} and --final-warmup {self.final:g} must not be negative"
            )
        if self.warmup * (self.initial + self.final) >= self.total:
            raise UsageError(
                f"{self.warmup} warm-up steps x ({self.initial:g} initial + {self.final:g} final) reach the "
                f"{self.total} steps of the run, so nothing would be pruned gradually; lower --warmup, "
                "--initial-warmup or --final-warmup, or raise --epochs or --steps"
            )

    @property
    def descent(self) -> tuple[float, float]:
        """Where the descent begins and where it has ended, in steps: i W and T - f W."""
        return self.initial * self.warmup, self.total - self.final * self.warmup

    def density(self, step: int) -> float:
        """v_t, in [end, start]."""
        left = self._left(step)
        return self.start if left == 1.0 else self.end + (self.start - self.end) * left

    def progress(self, step: int) -> float:
        """(v_i - v_t) / (v_i - v_f), also where v_i = v_f: 0 before pruning begins, 1 from T - f W on."""
        return 1.0 - self._left(step)

    def _left(self, step: int) -> float:
        begin, finish = self.descent
        if step < begin:
            return 1.0
        if step >= finish:
            return 0.0
        return (1.0 - (step - begin) / (finish - begin)) ** 3


def check_warmup(warmup: float) -> None:
    """Refuse a `--warmup` that means no number of steps, however long the run is.

    Raises:
        UsageError: negative, not finite, or a number of steps that is not whole.
    """
    if not 0 <= warmup < math.inf or (warmup > 1 and not warmup.is_integer()):
        raise UsageError(f"--warmup {warmup:g}: give a fraction below 1 or a whole number of steps")


def warmup_steps(warmup: float, total: int) -> int:
    """Steps meant by `--warmup`: a fraction of `total` if below 1, else a count of steps.

    Raises:
        UsageError: it means no number of steps, or one no shorter than the run.
    """
    check_warmup(warmup)
    steps = int(warmup * total) if warmup < 1 else int(warmup)
    if steps >= total:
        raise UsageError(
            f"--warmup {steps} reaches the {total} steps of the run; lower it or raise --epochs or --steps"
        )
    return steps


def linear_rate(step: int, warmup: int, total: int) -> float:
    """Learning-rate factor: rises from 0 over `warmup` steps, then falls linearly to 0 at `total`."""
    if step < warmup:
        return step / warmup
    return (total - step) / (total - warmup)
