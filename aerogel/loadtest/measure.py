"""Numbers of a load: rates, percentiles, errors."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from aerogel.loadtest.generator import TIMEOUT, Load

__all__ = ["Point", "percentile", "summarize"]


@dataclass(frozen=True)
class Point:
    """Measurements at one rate. Latencies are in milliseconds, from the scheduled arrival.

    Attributes:
        rate: requests per second that were scheduled.
        requests: number of measured requests.
        answered: answers of status 200 per second.
        errors: number of requests per outcome other than 200.
        mean, p50, p90, p99, p999, worst: latency of answers of status 200 and of requests that timed out; NaN if
            nothing was answered.
        lag_p99: 99th percentile of the delay between arrival and sending while a connection was free, in milliseconds:
            the generator's own lateness, which is part of the latencies.
    """

    rate: float
    requests: int
    answered: float
    errors: dict[str, int] = field(default_factory=dict)
    mean: float = math.nan
    p50: float = math.nan
    p90: float = math.nan
    p99: float = math.nan
    p999: float = math.nan
    worst: float = math.nan
    lag_p99: float = math.nan

    @property
    def failed(self) -> int:
        """Number of requests without an answer of status 200."""
        return sum(self.errors.values())

    def holds(self, bound: float) -> bool:
        """Whether every request was answered, and p99 is at most `bound` milliseconds."""
        return not self.failed and self.p99 <= bound


def percentile(values: np.ndarray, fraction: float) -> float:
    """The smallest value that at least `fraction` of the values do not exceed (nearest rank); NaN without values."""
    if not len(values):
        return math.nan
    rank = max(1, math.ceil(fraction * len(values) - 1e-9))
    return float(np.partition(values, rank - 1)[rank - 1])


def summarize(load: Load, rate: float, warmup: float, seconds: float) -> Point:
    """Measure the requests that arrive from `warmup` to `seconds` after the start."""
    measured = load.due >= warmup
    outcomes = [outcome for outcome, counted in zip(load.outcomes, measured.tolist(), strict=True) if counted]
    latency = 1000 * (load.done - load.due)[measured]
    counted = np.array([outcome in ("200", TIMEOUT) for outcome in outcomes], bool)
    values = latency[counted]
    good = sum(outcome == "200" for outcome in outcomes)
    # An overloaded server answers long after the last arrival.
    span = max(seconds, float(load.done.max(initial=0))) - warmup
    lag = 1000 * (load.sent - load.due)[measured & ~load.waited]
    return Point(
        rate=rate,
        requests=len(outcomes),
        answered=good / span,
        errors=dict(sorted(Counter(outcome for outcome in outcomes if outcome != "200").items())),
        mean=float(values.mean()) if len(values) else math.nan,
        p50=percentile(values, 0.5),
        p90=percentile(values, 0.9),
        p99=percentile(values, 0.99),
        p999=percentile(values, 0.999),
        worst=percentile(values, 1),
        lag_p99=percentile(lag[~np.isnan(lag)], 0.99),
    )
