"""Thread counts."""

from __future__ import annotations

from aerogel.errors import UsageError

__all__ = ["check_threads"]

# A larger number is a typing error and would exhaust the memory.
_MAX_THREADS = 1024


def check_threads(threads: object, name: str = "threads") -> None:
    """Check a number of threads.

    Raises:
        UsageError: `threads` is not an integer from 1 to 1024. The message calls the argument `name`.
    """
    if type(threads) is not int or not 1 <= threads <= _MAX_THREADS:
        raise UsageError(f"{name} {threads!r} is out of range; give an integer from 1 to {_MAX_THREADS}")
