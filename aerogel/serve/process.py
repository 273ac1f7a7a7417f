"""One server process: an event loop, uvicorn, and the models."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn

from aerogel.serve.app import App, application
from aerogel.serve.endpoint import AREAS
from aerogel.serve.protocol import connection_type
from aerogel.serve.service import Service
from aerogel.serve.settings import Settings

__all__ = ["Process", "new_loop", "run_process"]

# Seconds after which a thread that computes in Python lets another one run. The default, 5 ms, is as long as a batch.
_SWITCH = 0.0005
# Seconds between measurements of the memory.
_MEMORY_SECONDS = 10.0


def run_process(
    settings: Settings, sockets: list[socket.socket], ready: Callable[[], None], *, late: bool = False
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Args:
        settings: the server's settings.
        sockets: the socket for requests and, with `ops_port`, one for everything else.
        ready: called once all models are loaded.
        late: accept no connection before that, because other processes on the same socket can answer.
    """
    sys.setswitchinterval(_SWITCH)
    loop = new_loop()
    try:
        asyncio.set_event_loop(loop)
        process = Process(settings, sockets, ready, late=late)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stop)
        loop.run_until_complete(process.serve())
        return 0
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class Process:
    """The servers of a process; see `run_process`."""

    def __init__(
        self,
        settings: Settings,
        sockets: list[socket.socket],
        ready: Callable[[], None],
        *,
        late: bool = False,
    ) -> None:
        self._settings, self._sockets, self._ready, self._late = settings, sockets, ready, late
        self._servers: list[_Server] = []
        self._service: Service | None = None

    async def serve(self) -> None:
        """Serve until `stop` is called.

        Raises:
            UsageError: the keys cannot be read.
        """
        service = self._service = Service(self._settings)
        areas = [["api"], ["ops", "docs", "admin"]] if len(self._sockets) > 1 else [AREAS]
        self._servers = [_Server(_config(self._settings, application(service, part))) for part in areas]
        loading = asyncio.ensure_future(_load(service, self._ready))
        measuring = asyncio.ensure_future(_measure_memory(service))
        if self._late:
            await loading
        if not (self._late and service.draining):
            await asyncio.gather(
                *(
                    server.serve(sockets=[one])
                    for server, one in zip(self._servers, self._sockets, strict=True)
                )
            )
        for task in (loading, measuring):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await service.pool.close()
        service.log.event("stopped")

    def stop(self) -> None:
        """Accept requests for `drain` seconds more, answer them, and end. A second call does not wait for clients."""
        service = self._service
        if service is None or service.draining:
            for server in self._servers:
                server.force_exit = True
            self._leave()
            return
        service.log.event("stopping", seconds=self._settings.drain)
        service.drain()
        asyncio.get_running_loop().call_later(self._settings.drain, self._leave)

    def _leave(self) -> None:
        for server in self._servers:
            server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _load(service: Service, ready: Callable[[], None]) -> None:
    await service.pool.load_all()
    # What is loaded stays; the collector need not visit it again.
    gc.collect()
    gc.freeze()
    if service.pool.ready:
        service.log.event("ready", models=",".join(served.name for served in service.pool.all()))
        ready()


async def _measure_memory(service: Service) -> None:
    while True:
        service.metrics.memory()
        await asyncio.sleep(_MEMORY_SECONDS)


def _config(settings: Settings, app: App) -> uvicorn.Config:
    # Its messages repeat what clients send; our own log has what matters.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app,
        http=connection_type(settings.read_timeout),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.drain_timeout,  # type: ignore[arg-type]
        limit_concurrency=settings.max_connections,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop of uvloop, or Python's own where uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
