"""Numbers of threads."""

from __future__ import annotations

from aerogel.errors import UsageError

__all__ = ["check_threads"]

# More than any machine has cores; a larger number is a typing error that would exhaust memory.
_MOST_THREADS = 1024


def check_threads(threads: object, name: str = "threads") -> None:
    """Check a number of threads.

    Raises:
        UsageError: `threads` is not an integer from 1 to 1024; the message calls it `name`.
    """
    if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
        raise UsageError(f"{name} {threads!r} is out of range; give an integer from 1 to {_MOST_THREADS}")
