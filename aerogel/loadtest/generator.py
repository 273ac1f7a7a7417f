"""The open loop: send each request when it is due, and measure from that time.

Latency is the time from the scheduled arrival to the end of the answer. If no connection is free, a request waits, and
that wait is part of its latency. So a server that stalls is seen in every request that arrives during the stall
(no "coordinated omission").
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.errors import UsageError
from aerogel.loadtest.connection import Connection
from aerogel.loadtest.target import Target

__all__ = ["MAX_CONNECTIONS", "TIMEOUT", "Load", "generate", "probe"]

MAX_CONNECTIONS = 900
"""select() takes descriptors below 1024."""

TIMEOUT = "timeout"
"""Outcome of a request without an answer in time."""

# Seconds between two checks for timeouts and lost connections.
_SWEEP = 0.05
# Seconds from the call to the first arrival, so that connections are open.
_LEAD = 0.2


@dataclass(frozen=True)
class Load:
    """Times of all requests, in seconds from the start of the schedule.

    Attributes:
        due: float64 ``[requests]``: scheduled arrivals.
        sent: when each was written to a connection; NaN if it never was.
        done: when its answer was complete, or when it failed.
        waited: bool ``[requests]``: whether a request waited for a free connection.
        outcomes: HTTP status of each as text, or ``"timeout"`` or ``"connection"``.
        start: the start of the schedule on the clock of `time.monotonic`.
    """

    due: np.ndarray
    sent: np.ndarray
    done: np.ndarray
    waited: np.ndarray
    outcomes: list[str]
    start: float


def generate(
    target: Target, due: np.ndarray, requests: Sequence[bytes], *, connections: int, timeout: float
) -> Load:
    """Send requests and wait for all answers.

    Args:
        target: the server.
        due: ascending arrival times in seconds.
        requests: bytes of each request.
        connections: connections to open.
        timeout: seconds from the arrival of a request after which it failed.

    Raises:
        UsageError: the server cannot be reached.
    """
    return _run(_Generator(target, due, requests, connections, timeout))[0]


def probe(target: Target, request: bytes, timeout: float) -> tuple[str, bytes]:
    """Outcome of one request, and the first bytes of the answer's body.

    Raises:
        UsageError: the server cannot be reached.
    """
    load, body = _run(_Generator(target, np.zeros(1), [request], 1, timeout))
    return load.outcomes[0], body


def _run(generator: _Generator) -> tuple[Load, bytes]:
    # epoll rounds timeouts up to whole milliseconds, which would delay arrivals; select() does not.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        return loop.run_until_complete(generator.run()), generator.body
    finally:
        loop.close()


class _Generator:
    """State of one run; everything happens in callbacks of the loop, which cost less than tasks."""

    def __init__(
        self, target: Target, due: np.ndarray, requests: Sequence[bytes], connections: int, timeout: float
    ) -> None:
        self._target, self._due, self._requests = target, due.tolist(), requests
        self._wanted, self._timeout = connections, timeout
        self._sent = np.full(len(due), np.nan)
        self._done = np.full(len(due), np.nan)
        self._waited = np.zeros(len(due), bool)
        self._outcomes = [""] * len(due)
        self._remaining = len(due)
        self._next = 0
        self._waiting: deque[int] = deque()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self.body = b""

    async def run(self) -> Load:
        self._loop = loop = asyncio.get_running_loop()
        self._finished = loop.create_future()
        try:
            self._opening = 1
            await self._connect(first=True)
            await asyncio.gather(*(self._connect() for _ in range(self._more())))
            self._start = loop.time() + _LEAD
            self._sweep()
            self._arrive()
            if self._remaining:
                await self._finished
        finally:
            self._remaining = 0
            for connection in list(self._open):
                connection.close()
            # Let the transports close their sockets.
            await asyncio.sleep(0)
        return Load(np.array(self._due), self._sent, self._done, self._waited, self._outcomes, self._start)

    def _more(self) -> int:
        """Number of connections to open now; they count as being opened."""
        more = self._wanted - len(self._open) - self._opening
        self._opening += more
        return more

    async def _connect(self, *, first: bool = False) -> None:
        target = self._target
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._answered, self._lost), target.host, target.port, ssl=target.tls
            )
        except OSError as error:
            self._opening -= 1
            if first:
                raise UsageError(
                    f"{target.host}:{target.port}: cannot connect ({error.strerror or error}); start the server"
                ) from error
            return  # the sweep tries again
        self._opening -= 1
        self._open.add(connection)
        self._free(connection)

    def _arrive(self) -> None:
        """Send the requests that are due, then wait for the next one."""
        now = self._loop.time() - self._start
        while self._next < len(self._due) and self._due[self._next] <= now:
            self._waiting.append(self._next)
            self._send()
            self._waited[self._next] = bool(self._waiting)
            self._next += 1
        if self._next < len(self._due):
            self._loop.call_at(self._start + self._due[self._next], self._arrive)

    def _send(self) -> None:
        while self._waiting and self._idle:
            connection = self._idle.pop()
            if not connection.usable:
                continue
            number = self._waiting.popleft()
            self._sent[number] = self._loop.time() - self._start
            connection.send(number, self._requests[number])

    def _free(self, connection: Connection) -> None:
        self._idle.append(connection)
        self._send()

    def _answered(self, connection: Connection, outcome: str) -> None:
        number, connection.request = connection.request, None
        if number is not None:
            self.body = connection.body
            self._end(number, outcome)
        if connection.usable:
            self._free(connection)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _end(self, number: int, outcome: str) -> None:
        self._done[number] = self._loop.time() - self._start
        self._outcomes[number] = outcome
        self._remaining -= 1
        if not self._remaining:
            self._finished.set_result(None)

    def _sweep(self) -> None:
        """End requests that wait too long; replace lost connections."""
        if not self._remaining:
            return
        late = self._loop.time() - self._start - self._timeout
        for connection in list(self._open):
            number = connection.request
            if number is not None and self._due[number] < late:
                connection.close()
                self._end(number, TIMEOUT)
        while self._waiting and self._due[self._waiting[0]] < late:
            self._end(self._waiting.popleft(), TIMEOUT)
        # References keep the tasks alive.
        self._tasks = [self._loop.create_task(self._connect()) for _ in range(self._more())]
        self._loop.call_later(_SWEEP, self._sweep)
