"""How far a mask is from chance. Every moment here is exact under its null hypothesis; no simulation is needed.

The null hypothesis of `dispersion` and `overlap`: the K kept ones of N entries are a uniformly random subset. With
falling factorials (x)_a = x (x - 1) ... (x - a + 1) and k_a = (K)_a / (N)_a, the counts c_j of m groups of n entries
each have

    E[(c_i)_a (c_j)_b] = (n)_a (n)_b k_{a+b}      for i != j,      E[(c_i)_a] = (n)_a k_a
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from aerogel.errors import require

__all__ = ["Deviation", "correlation", "dispersion", "overlap", "total"]

# Beyond it floating point has no number, and JSON no infinity.
_LOG10_LEAST = -300.0


@dataclass(frozen=True)
class Deviation:
    """A statistic beside its mean and variance under chance.

    Attributes:
        observed: its value.
        expected: its mean.
        variance: its variance; 0 where the mask leaves chance no room.
    """

    observed: float
    expected: float
    variance: float

    @property
    def ratio(self) -> float | None:
        """Observed over expected; 1 is chance."""
        return self.observed / self.expected if self.expected else None

    @property
    def z(self) -> float | None:
        """Standard deviations above chance."""
        return (self.observed - self.expected) / math.sqrt(self.variance) if self.variance > 0 else None

    @property
    def log10_p(self) -> float | None:
        """log10 of the probability that chance reaches the observed value, for a statistic that is a sum of squares.

        By the gamma distribution of the same mean and variance, which for a sum of many squares is close; far in the
        tail (below 1e-6 or so) it says "very small" rather than how small, and ends at -300.
        """
        if self.variance <= 0:
            return None
        gamma = require("scipy.stats", "inspect").gamma
        shape, scale = self.expected**2 / self.variance, self.variance / self.expected
        tail = float(gamma.logsf(self.observed, shape, scale=scale)) / math.log(10)
        return max(tail, _LOG10_LEAST)


def total(parts: Iterable[Deviation]) -> Deviation:
    """The sum of statistics of independent masks."""
    found = list(parts)
    return Deviation(
        sum(part.observed for part in found),
        sum(part.expected for part in found),
        sum(part.variance for part in found),
    )


def dispersion(mask: np.ndarray, axis: int) -> Deviation:
    """How unevenly the kept entries of a boolean ``[rows, cols]`` are spread over its rows (axis 0) or columns (1).

    The statistic is D = sum over groups of (c_j - K / m)^2 with the counts c_j of the m rows or columns, m times the
    variance of the counts. With S = sum (c_j)_2, D = S + K - K^2 / m, and

        E[S] = m (n)_2 k_2
        E[S^2] = m ((n)_4 k_4 + 4 (n)_3 k_3 + 2 (n)_2 k_2) + m (m - 1) (n)_2^2 k_4
    """
    counts = np.count_nonzero(mask, axis=1 - axis)
    m, n = len(counts), mask.shape[1 - axis]
    kept = int(counts.sum())
    k = [Fraction(_falling(kept, a), _falling(m * n, a) or 1) for a in range(5)]
    f = [_falling(n, a) for a in range(5)]
    mean = m * f[2] * k[2]
    square = m * (f[4] * k[4] + 4 * f[3] * k[3] + 2 * f[2] * k[2]) + m * (m - 1) * f[2] ** 2 * k[4]
    shift = kept - Fraction(kept**2, m)
    pairs = int((counts.astype(np.int64) * (counts - 1)).sum())
    return Deviation(float(pairs + shift), float(mean + shift), float(square - mean**2))


def overlap(one: np.ndarray, other: np.ndarray) -> Deviation:
    """How many entries two boolean masks of one shape both keep, against two random masks of their counts.

    The count is hypergeometric: mean K1 K2 / N, variance K1 K2 (N - K1) (N - K2) / (N^2 (N - 1)).
    """
    size, first, second = one.size, int(np.count_nonzero(one)), int(np.count_nonzero(other))
    both = int(np.count_nonzero(one & other))
    spread = Fraction(first * second * (size - first) * (size - second), max(size**2 * (size - 1), 1))
    return Deviation(both, float(Fraction(first * second, size)), float(spread))


def correlation(one: np.ndarray, other: np.ndarray) -> tuple[float, float] | None:
    """Pearson's r of two vectors ``[n]``, and r sqrt(n - 1), its z-score under random permutations of either.

    None where a vector is constant.
    """
    a, b = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    if not scale:
        return None
    r = float(a @ b) / scale
    return r, r * math.sqrt(len(one) - 1)


def _falling(x: int, times: int) -> int:
    return math.prod(x - step for step in range(times))
