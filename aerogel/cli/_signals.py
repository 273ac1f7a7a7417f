"""Signals that stop a verb: they set an event, so that the verb can end its processes and write its results."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stop", "stoppable"]

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(threading.Event):
    """Set when the process is asked to stop.

    Attributes:
        signal: the first signal received; None so far.
    """

    signal: signal.Signals | None = None


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Yield an event that SIGINT, SIGTERM or SIGHUP sets. A second SIGINT has its usual effect.

    Signals that the process ignores, as under nohup, stay ignored. Only the main thread may call this.
    """
    stop = Stop()
    handlers = {number: signal.getsignal(number) for number in _STOPPING}
    before = {number: old for number, old in handlers.items() if old not in (signal.SIG_IGN, None)}

    def note(number: int, _: Any) -> None:
        stop.signal = stop.signal or signal.Signals(number)
        stop.set()
        # Only SIGINT: supervisors may send the others twice, to a process and to its group.
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
