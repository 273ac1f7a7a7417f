"""Signals that ask a verb to stop: noted, so that it ends what it began and writes what it has."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stop", "stoppable"]

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(threading.Event):
    """Set when the process is asked to stop.

    Attributes:
        signal: that asked first.
    """

    signal: signal.Signals | None = None


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Yield an event that an interrupt, a hang-up or a request to terminate sets; a second interrupt acts as ever.

    What the process ignores (under nohup, say) stays ignored. Only the main thread may call this.
    """
    stop = Stop()
    found = {number: signal.getsignal(number) for number in _ASKING}
    before = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, _: Any) -> None:
        stop.signal = stop.signal or signal.Signals(number)
        stop.set()
        # Some send the others twice, to a process and to its group; who interrupts twice is in a hurry.
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
