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
from aerogel.serve.protocol import connection_type
from aerogel.serve.service import Service
from aerogel.serve.settings import Settings

__all__ = ["run_process", "serve"]

# Seconds after which a thread that computes in Python lets another one run. The default, 5 ms, is as long as a batch.
_SWITCH = 0.0005


def run_process(settings: Settings, sockets: list[socket.socket], ready: Callable[[], None]) -> int:
    """Serve until a signal; returns the exit status.

    Args:
        settings: the server's settings.
        sockets: the socket for requests and, with `ops_port`, one for everything else.
        ready: called once all models are loaded.
    """
    sys.setswitchinterval(_SWITCH)
    loop = _new_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(serve(settings, sockets, ready))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def serve(settings: Settings, sockets: list[socket.socket], ready: Callable[[], None]) -> int:
    """Serve on the running loop until SIGTERM or SIGINT; see `run_process`."""
    service = Service(settings)
    if len(sockets) > 1:
        apps = [application(service, ["api"]), application(service, ["ops", "docs", "admin"])]
    else:
        apps = [application(service)]
    servers = [_Server(_config(settings, app)) for app in apps]
    loop = asyncio.get_running_loop()

    def leave() -> None:
        for server in servers:
            server.should_exit = True

    def stop() -> None:
        if service.draining:
            # A second signal does not wait for clients.
            for server in servers:
                server.force_exit = True
            leave()
            return
        service.log.event("stopping", seconds=settings.drain)
        service.drain()
        loop.call_later(settings.drain, leave)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loading = asyncio.ensure_future(_load(service, ready))
    await asyncio.gather(
        *(server.serve(sockets=[listening]) for server, listening in zip(servers, sockets, strict=True))
    )
    loading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loading
    await service.pool.close()
    service.log.event("stopped")
    return 0


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


def _config(settings: Settings, app: App) -> uvicorn.Config:
    # Its messages repeat what clients send; our own log has what matters.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
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


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
