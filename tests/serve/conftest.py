from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aerogel.serve.process import Process, new_loop
from aerogel.serve.settings import Settings
from aerogel.serve.sockets import address, bind, bind_port, release

Make = Callable[..., Path]
SECONDS = 120
"""Longest time that a test waits for anything."""


class Server:
    """A server on its own thread and a free port.

    Attributes:
        url: its address.
        ops_url: address of metrics, admin routes and documentation.
        port: its port.
        client: a client of the server.
    """

    def __init__(self, *models: Any, wait: bool = True, **settings: Any) -> None:
        fixed = {
            "port": 0,
            "sessions": 1,
            "threads": 1,
            "batch_tokens": 64,
            "drain": 0.0,
            "log_format": "json",
        }
        self.settings = Settings(models=tuple(map(str, models)), **{**fixed, **settings})
        self._sockets = [bind(self.settings)]
        if self.settings.ops_port is not None:
            self._sockets.append(bind_port(self.settings.host, self.settings.ops_port))
        tls = self.settings.tls_cert is not None
        self.url = address(self._sockets[0], tls=tls)
        self.ops_url = address(self._sockets[-1], tls=tls)
        self._loaded = threading.Event()
        self.loop = new_loop()
        self._process = Process(self.settings, self._sockets, self._loaded.set)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        transport = httpx.HTTPTransport(uds=str(self.settings.uds)) if self.settings.uds else None
        base = "http://server" if transport else self.url
        self.client = httpx.Client(base_url=base, transport=transport, timeout=SECONDS, verify=False)
        if wait and not self._loaded.wait(SECONDS):
            self.stop()
            pytest.fail("the models were not loaded")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.client.post(path, json=body, **options)

    def stop(self) -> None:
        self.client.close()
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._process.stop)
        self._thread.join(SECONDS)
        release(self._sockets, self.settings)
        assert not self._thread.is_alive()

    def drain(self) -> None:
        """Ask the server to stop, as SIGTERM does."""
        self.loop.call_soon_threadsafe(self._process.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._process.serve())
        self.loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Factory of servers, which end with the test: ``serve("name=folder", timeout=1)``."""
    servers: list[Server] = []

    def make(*models: Any, **settings: Any) -> Server:
        servers.append(Server(*models, **settings))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def folders(exported: Make, exported_embedder: Make) -> dict[str, Path]:
    """Folders of tiny models by the name under which `server` serves them."""
    return {
        "embedder": exported_embedder("mean"),
        "plain": exported(),
        "sentiment": exported("SequenceClassification", num_labels=3),
        "ranker": exported("SequenceClassification", num_labels=1),
        "tagger": exported("TokenClassification", num_labels=5),
        "reader": exported("QuestionAnswering"),
        "filler": exported("MaskedLM"),
    }


@pytest.fixture(scope="session")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    """A server of all tiny models."""
    found = Server(*(f"{name}={folder}" for name, folder in folders.items()))
    yield found
    found.stop()
