"""uvicorn's HTTP connection with limits for slow and endless requests, and with news of clients that leave."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["Connection", "connection_type"]

# Largest request line with headers, in bytes; uvicorn has no limit.
_MAX_HEAD = 64 << 10


class _Transport:
    """A transport that can keep what is written next until the write after it, so that both take one system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._write = transport.write
        self.hold = False
        self._held = b""

    def write(self, data: bytes) -> None:
        if self.hold:
            self.hold, self._held = False, data
            return
        if self._held:
            data, self._held = self._held + data, b""
        self._write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """A connection of a client.

    Attributes:
        waiting: results that the client waits for; they are cancelled when it disconnects.
    """

    READ_SECONDS = 30.0
    """Seconds within which a client must send a whole request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.transport = _Transport(transport)  # type: ignore[assignment]
        self.waiting: set[asyncio.Future[Any]] = set()
        self._head = 0
        self._reading: asyncio.TimerHandle | None = None
        self._start_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_reading()
        super().connection_lost(exc)
        for future in list(self.waiting):
            future.cancel()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._reading is None and (self.cycle is None or self.cycle.response_complete):
            self._start_reading()
        self._head += len(data)
        super().data_received(data)
        # Set to zero when the headers are complete; bodies have their own limit.
        if self._head > _MAX_HEAD and not self.transport.is_closing() and self._in_head():
            self._refuse(b"431 Request Header Fields Too Large")

    def hold_head(self) -> None:
        """Send the head of the answer, which is written next, together with its body."""
        self.transport.hold = True  # type: ignore[attr-defined]

    def on_message_begin(self) -> None:
        """See `HttpToolsProtocol`."""
        super().on_message_begin()
        self.scope["aerogel"] = self  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        self._head = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        self._head = 0
        self._stop_reading()
        super().on_message_complete()
        # uvicorn stops reading during a large body; without reading, it does not see that the client leaves.
        self.flow.resume_reading()

    def _in_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or not self.cycle.more_body

    def _start_reading(self) -> None:
        self._reading = self.loop.call_later(self.READ_SECONDS, self._refuse, b"408 Request Timeout")

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _refuse(self, status: bytes) -> None:
        """Answer with a status, unless an answer has begun, and close the connection."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()


def connection_type(read_seconds: float) -> type[Connection]:
    """The connection class with a time limit for reading a request."""
    return type("Connection", (Connection,), {"READ_SECONDS": read_seconds})
