"""Several worker processes that share a socket: start them, restart those that die, replace them one by one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from aerogel.errors import AerogelError
from aerogel.serve.config import to_toml
from aerogel.serve.log import Log
from aerogel.serve.metrics import MULTIPROCESS
from aerogel.serve.pool import named_paths
from aerogel.serve.settings import Settings
from aerogel.serve.snapshot import Snapshots
from aerogel.system.printable import one_line

__all__ = ["Supervisor"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
# Seconds before a worker that died while it loaded its models is started again; doubled each time, up to the second.
_DELAYS = (0.1, 2.0)
# Seconds that a new worker may take to load its models in a rolling restart.
_LOADING = 300.0


@dataclass
class _Worker:
    """A process: whether its models are loaded, and the file that says so."""

    process: subprocess.Popen[str]
    ready: int
    loaded: bool = False


class Supervisor:
    """Runs `settings.workers` processes on a socket.

    SIGTERM and SIGINT stop them; SIGHUP reads the models again and replaces the workers one after the other, each after
    the new one has loaded its models. If that fails, the old ones go on.

    Args:
        settings: the server's settings.
        listening: the socket.
        log: where events are written.
    """

    def __init__(self, settings: Settings, listening: socket.socket, log: Log) -> None:
        self._settings, self._listening, self._log = settings, listening, log
        self._snapshots = Snapshots(settings.snapshot)
        self._workers: list[_Worker] = []
        self._stopping = False
        self._delay = _DELAYS[0]
        self._start_at = 0.0

    def run(self) -> int:
        """Serve until a signal; returns the exit status."""
        with tempfile.TemporaryDirectory(prefix="aerogel-metrics-") as metrics, _wakeups() as wakeup:
            os.environ[MULTIPROCESS] = metrics
            try:
                current = self._copied()
                self._workers = [self._start(current) for _ in range(self._settings.workers)]
                while self._workers:
                    for number in self._wait(wakeup):
                        if number in (signal.SIGTERM, signal.SIGINT):
                            self._stop()
                        elif number == signal.SIGHUP and not self._stopping:
                            current = self._replace(current, wakeup)
                    self._bury()
                    missing = self._settings.workers - len(self._workers)
                    if missing > 0 and not self._stopping and time.monotonic() >= self._start_at:
                        self._workers += [self._start(current) for _ in range(missing)]
            finally:
                for worker in self._workers:
                    worker.process.kill()
                    worker.process.wait()
                self._snapshots.close()
        return 0

    def _copied(self) -> Settings:
        """Settings of the workers: they open the copies of the models, whose pages they share."""
        paths = named_paths(self._settings.models)
        models = tuple(f"{name}={self._snapshots.take(path)}" for name, path in paths.items())
        return replace(self._settings, models=models, snapshot=False)

    def _start(self, settings: Settings) -> _Worker:
        reading, writing = os.pipe()
        late = any(worker.loaded for worker in self._workers)
        listening = self._listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "aerogel.serve.worker", str(listening), str(writing), str(int(late))],
            stdin=subprocess.PIPE,
            pass_fds=(listening, writing),
            text=True,
            # Signals of a terminal go to the supervisor, which passes them on.
            start_new_session=True,
        )
        os.close(writing)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(to_toml(settings))
            process.stdin.close()
        self._log.event("worker started", pid=process.pid)
        return _Worker(process, reading)

    def _wait(self, wakeup: int, seconds: float = 0.5) -> list[int]:
        """Wait for signals and for workers that are loaded; returns the signals."""
        loading = {worker.ready: worker for worker in self._workers if not worker.loaded}
        with contextlib.suppress(InterruptedError):
            ready, _, _ = select.select([wakeup, *loading], [], [], seconds)
            for file in ready:
                if file in loading and os.read(file, 1):
                    loading[file].loaded = True
                    self._delay = _DELAYS[0]
            if wakeup in ready:
                return list(os.read(wakeup, 4096))
        return []

    def _bury(self) -> None:
        """Forget workers that have ended, and note when to start others in their place."""
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            os.close(worker.ready)
            _forget_metrics(worker.process.pid)
            if self._stopping:
                continue
            self._log.event("worker ended", pid=worker.process.pid, status=worker.process.returncode)
            if not worker.loaded:
                self._start_at = time.monotonic() + self._delay
                self._delay = min(_DELAYS[1], 2 * self._delay)

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.process.send_signal(signal.SIGTERM)

    def _replace(self, current: Settings, wakeup: int) -> Settings:
        """Replace all workers by ones with the models as they are on disk now; returns the settings in use after."""
        try:
            wanted = self._copied()
        except (AerogelError, OSError) as error:
            self._log.event("models not loaded", error=one_line(error))
            return current
        old = list(self._workers)
        for worker in old:
            new = self._start(wanted)
            self._workers.append(new)
            until = time.monotonic() + _LOADING
            while not new.loaded and new.process.poll() is None and time.monotonic() < until:
                if {signal.SIGTERM, signal.SIGINT} & set(self._wait(wakeup)):
                    self._stop()
                    return wanted
            if not new.loaded:
                new.process.kill()
                self._log.event("models not loaded", error="a new worker failed; the old ones go on")
                return current
            worker.process.send_signal(signal.SIGTERM)
        self._log.event("workers replaced")
        return wanted


@contextlib.contextmanager
def _wakeups() -> Iterator[int]:
    """A file from which the numbers of received signals can be read."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before: dict[int, Any] = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    old = signal.set_wakeup_fd(writing)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _forget_metrics(pid: int) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)
