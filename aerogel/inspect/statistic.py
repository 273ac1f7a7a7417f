"""Statistics of masks compared with random masks. All means and variances are exact; nothing is simulated.

Null hypothesis of `dispersion` and `overlap`: the K kept entries are a uniformly random subset of all N. With falling
factorials (x)_a = x (x - 1) ... (x - a + 1) and k_a = (K)_a / (N)_a, the counts c_j of m groups of n entries each have

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

# Smallest log10 p that is reported: smaller probabilities underflow, and JSON has no infinity.
_MIN_LOG10 = -300.0


@dataclass(frozen=True)
class Deviation:
    """A statistic with its mean and variance under the null hypothesis.

    Attributes:
        observed: value of the statistic.
        expected: its mean under the null hypothesis.
        variance: its variance under the null hypothesis; 0 if only one mask is possible.
    """

    observed: float
    expected: float
    variance: float

    @property
    def ratio(self) -> float | None:
        """Observed over expected; about 1 for a random mask."""
        return self.observed / self.expected if self.expected else None

    @property
    def z(self) -> float | None:
        """Standard deviations above the expected value."""
        return (self.observed - self.expected) / math.sqrt(self.variance) if self.variance > 0 else None

    @property
    def log10_p(self) -> float | None:
        """log10 of the probability of at least the observed value, for a statistic that is a sum of squares.

        Uses the gamma distribution of the same mean and variance. It approximates a sum of many squares well, except
        far in the tail: below about 1e-6, read the value as "very small". The minimum is -300.
        """
        if self.variance <= 0:
            return None
        gamma = require("scipy.stats", "inspect").gamma
        shape, scale = self.expected**2 / self.variance, self.variance / self.expected
        tail = float(gamma.logsf(self.observed, shape, scale=scale)) / math.log(10)
        return max(tail, _MIN_LOG10)


def total(parts: Iterable[Deviation]) -> Deviation:
    """Sum of statistics of independent masks."""
    found = list(parts)
    return Deviation(
        sum(part.observed for part in found),
        sum(part.expected for part in found),
        sum(part.variance for part in found),
    )


def dispersion(mask: np.ndarray, axis: int) -> Deviation:
    """How unevenly the kept entries of a boolean ``[rows, cols]`` are distributed over rows (axis 0) or columns (1).

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
    """Number of entries that two boolean masks of the same shape both keep, against random masks of equal counts.

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
