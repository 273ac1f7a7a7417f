"""When requests arrive."""

from __future__ import annotations

import numpy as np

__all__ = ["arrivals"]


def arrivals(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Arrival times of a Poisson process.

    Args:
        rate: requests per second.
        seconds: length of the process.
        seed: equal seeds give equal times.

    Returns:
        float64 ``[requests]``: seconds from the start, ascending, below `seconds`.
    """
    random = np.random.default_rng(seed)
    times = np.empty(0)
    while not times.size or times[-1] < seconds:
        # Enough for most processes of this length; the loop adds more to the others.
        count = int(rate * seconds + 4 * (rate * seconds) ** 0.5) + 16
        more = np.cumsum(random.exponential(1 / rate, count))
        times = np.concatenate([times, more + (times[-1] if times.size else 0.0)])
    found: np.ndarray = times[times < seconds]
    return found
