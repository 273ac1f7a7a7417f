"""Run a `worker`: request cases from it, with a time limit, and restart it after a crash."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

__all__ = ["Child"]


class Child:
    """A worker for `device`, started on the first request. Use as a context manager."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object

    def ask(self, name: str, seconds: float) -> dict[str, Any]:
        """Request a case; return ``{"result": ...}``, or ``{"error": reason}`` if it failed or took too long."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
        except OSError:
            return self._died()
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            if not waiting.select(seconds):
                self.close()
                return {"error": f"took longer than {seconds:.0f} s"}
        line = process.stdout.readline()
        if not line:
            return self._died()
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> None:
        # The variable must be set before Triton is imported.
        extra = {"TRITON_INTERPRET": "1"} if self._device == "cpu" else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aerogel.bench.gpu.worker", self._device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | extra,
        )

    def _died(self) -> dict[str, Any]:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        self._log.seek(0)
        self._log.truncate()
        self.close()
        return {"error": f"the process died: {lines[-1] if lines else 'it printed nothing'}"}

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._log.close()
