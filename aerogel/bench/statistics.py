"""Summarise timings that were taken in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Latency", "Speedup", "speedup", "summarise"]


@dataclass(frozen=True)
class Latency:
    """Latency of one run, in milliseconds.

    Attributes:
        median, p90, p99: percentiles over all iterations of all rounds, linearly interpolated.
        round_medians: median of each round.
        spread: interquartile range of `round_medians`, as a fraction of `median`.
    """

    median: float
    p90: float
    p99: float
    spread: float
    round_medians: list[float]


@dataclass(frozen=True)
class Speedup:
    """Speed-up over the baseline: median and quartiles over rounds."""

    median: float
    low: float
    high: float


def summarise(rounds: Sequence[Sequence[float]]) -> Latency:
    """Summarise times in seconds; `rounds[i]` has the iterations of round i."""
    medians = [float(np.median(times)) * 1e3 for times in rounds]
    median, p90, p99 = (float(v) * 1e3 for v in np.percentile(np.concatenate(rounds), (50, 90, 99)))
    low, high = np.percentile(medians, (25, 75))
    return Latency(median, p90, p99, float(high - low) / median, medians)


def speedup(baseline: Latency, measured: Latency) -> Speedup:
    """Return the ratio of round medians, round by round.

    Each round is compared with the baseline's round at the same time, so that a slow drift of the machine cancels.
    """
    ratios = np.divide(baseline.round_medians, measured.round_medians)
    low, median, high = (float(v) for v in np.percentile(ratios, (25, 50, 75)))
    return Speedup(median, low, high)
