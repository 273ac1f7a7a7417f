"""Find the highest rate at which a server holds a bound."""

from __future__ import annotations

from collections.abc import Callable

from aerogel.loadtest.measure import Point

__all__ = ["find_rate"]

# Largest rate to try, requests per second.
_MOST = 1e6


def find_rate(
    measure: Callable[[float], Point], bound: float, start: float, precision: float
) -> Point | None:
    """Search the highest rate whose p99 is at most `bound`, without an error.

    The rate is doubled until it fails, or halved until it holds; then the interval is bisected. The result is measured
    again, and lowered while the repetition fails, so that one lucky measurement is not the answer.

    Args:
        measure: measures a rate in requests per second.
        bound: milliseconds.
        start: first rate.
        precision: relative width of the final interval, e.g. 0.05.

    Returns:
        The repeated measurement of that rate; None if no rate from 1 request per second holds.
    """
    low, high = 0.0, start
    while high < _MOST and measure(high).holds(bound):
        low, high = high, 2 * high
    while not low:
        rate = high / 2
        if rate < 1:
            return None
        if measure(rate).holds(bound):
            low = rate
        else:
            high = rate
    while high > low * (1 + precision):
        middle = (low * high) ** 0.5
        if measure(middle).holds(bound):
            low = middle
        else:
            high = middle
    while low >= 1:
        point = measure(low)
        if point.holds(bound):
            return point
        low /= 1 + precision
    return None
