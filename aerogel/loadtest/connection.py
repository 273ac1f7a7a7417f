"""A keep-alive connection that sends one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aerogel.errors import require

__all__ = ["CONNECTION", "Connection"]

CONNECTION = "connection"
"""Outcome of a request whose connection was closed or whose answer was not HTTP."""

# Bytes of a body that are kept, for messages.
_KEPT = 2048


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        answered: called with (this connection, HTTP status or `CONNECTION`) when a request ends.
        lost: called with this connection when it is closed.

    Attributes:
        request: number of the request that waits for its answer, or None.
        body: first bytes of the last answer's body.
    """

    def __init__(
        self, answered: Callable[[Connection, str], None], lost: Callable[[Connection], None]
    ) -> None:
        self._answered, self._lost = answered, lost
        self._parser_class = require("httptools", "bench").HttpResponseParser
        self._parser: Any = None
        self._transport: Any = None
        self.request: int | None = None
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport

    def send(self, number: int, data: bytes) -> None:
        """Send request `number`."""
        self.request, self.body = number, b""
        self._parser = self._parser_class(self)
        self._transport.write(data)

    def close(self) -> None:
        """Close the connection; an answer that is on its way is dropped."""
        self.request = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.request is None:  # nothing was asked
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except Exception:  # not HTTP: httptools has a dozen exception types
            self._transport.abort()

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        if len(self.body) < _KEPT:
            self.body += data[:_KEPT]

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status = self._parser.get_status_code()
        if status < 200:  # the final answer follows
            return
        if not self._parser.should_keep_alive():
            self._transport.close()
        self._answered(self, str(status))

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - see asyncio.Protocol
        """See `asyncio.Protocol`."""
        if self.request is not None:
            self._answered(self, CONNECTION)
        self._lost(self)
