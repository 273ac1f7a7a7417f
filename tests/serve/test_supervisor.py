"""Several processes on one socket, started as a user does."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

BODY = {"inputs": "the film was good"}
SECONDS = 120


class Running:
    """`aerogel serve` with two workers, and the lines of its log."""

    def __init__(self, *arguments: str) -> None:
        fixed = [
            "--workers",
            "2",
            "--sessions",
            "1",
            "--threads",
            "1",
            "--batch-tokens",
            "64",
            "--drain",
            "0.2",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aerogel", "serve", *arguments, *fixed], stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait(self, pattern: str, count: int = 1) -> list[str]:
        """The first group of `count` lines that match, once the log has so many."""
        with self._more:
            end = time.monotonic() + SECONDS
            while True:
                found = [match[1] for line in self.lines if (match := re.search(pattern, line))]
                if len(found) >= count:
                    return found
                assert self._more.wait(end - time.monotonic()), "".join(self.lines)

    def stop(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()


@pytest.fixture
def running(
    folders: dict[str, Path], tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[tuple[Running, str, Path]]:
    """A server of two processes, its address, and the folder of its model."""
    folder = tmp_path / "film"
    shutil.copytree(folders["embedder"], folder)
    port = free_port()
    found = Running(str(folder), "--port", str(port))
    found.wait("( ready )", 2)
    yield found, f"http://127.0.0.1:{port}", folder
    found.stop()


def test_a_killed_worker_is_replaced(running: tuple[Running, str, Path]) -> None:
    server, url, _ = running
    expected = httpx.post(f"{url}/embed", json=BODY, timeout=SECONDS).json()
    victim = int(server.wait(r"worker started pid=(\d+)", 2)[0])
    os.kill(victim, signal.SIGKILL)
    assert server.wait(r"worker ended pid=(\d+) status=-9") == [str(victim)]
    server.wait(r"worker started pid=(\d+)", 3)
    server.wait("( ready )", 3)
    for _ in range(10):
        assert httpx.post(f"{url}/embed", json=BODY, timeout=SECONDS).json() == expected
    metrics = httpx.get(f"{url}/metrics", timeout=SECONDS).text
    # The counts of all processes, also of the one that died.
    assert 'te_request_success{method="embed"} 11.0' in metrics


def test_workers_are_replaced_without_an_error(running: tuple[Running, str, Path]) -> None:
    server, url, folder = running
    expected = httpx.post(f"{url}/embed", json=BODY, timeout=SECONDS).json()
    done = threading.Event()
    wrong: list[str] = []
    answered: list[int] = []

    def ask() -> None:
        while not done.is_set():
            reply = httpx.post(f"{url}/embed", json=BODY, timeout=SECONDS)
            answered.append(reply.status_code)
            if reply.status_code != 200 or reply.json() != expected:
                wrong.append(reply.text)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        server.process.send_signal(signal.SIGHUP)
        server.wait("(workers replaced)")
        # A model that is damaged on disk is not loaded.
        (folder / "model.onnx").write_bytes(b"damaged")
        server.process.send_signal(signal.SIGHUP)
        server.wait("(models not loaded)")
    finally:
        done.set()
        asking.join(SECONDS)
    assert answered
    assert not wrong
    assert len(server.wait(r"worker started pid=(\d+)", 4)) == 4


def test_sigterm_ends_all_processes(running: tuple[Running, str, Path]) -> None:
    server, url, _ = running
    assert server.stop() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez", timeout=SECONDS)
