"""Start a worker process, send it requests, and end it.

Requests and replies are lines of JSON, never pickles. The worker is started by module name: `multiprocessing` would
import the caller's main module, including torch, into the measured process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import aerogel
from aerogel import errors
from aerogel.errors import AerogelError, RuntimeLoadError

__all__ = ["Worker"]


class Worker:
    """A process that has loaded one model on one backend. Use as a context manager, or call `close`.

    Args:
        module: dotted name of the backend's module.
        model: the .onnx file.
        python: interpreter of another environment, which needs numpy and the backend's runtime but not Aerogel; None
            for the current one.
        arguments: the other arguments of ``open``: threads, variant, batch, seq, vocab, seed, lengths.

    Raises:
        AerogelError: the error that loading raised in the worker.
        RuntimeLoadError: the worker died.
    """

    def __init__(
        self,
        module: str,
        model: Path,
        *,
        python: Path | None = None,
        **arguments: int | str | tuple[int, ...],
    ) -> None:
        self.model = model
        self._folder = tempfile.TemporaryDirectory() if python else None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process, closed by `close`
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", "aerogel.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": self._modules()},
        )
        try:
            reply = self._ask("open", module=module, model=str(model), **arguments)
        except BaseException:
            self.close()
            raise
        self.load_seconds = float(reply["load_seconds"])
        self.details = str(reply["details"])

    def run(self, iterations: int) -> tuple[list[float], float]:
        """Time `iterations` inferences.

        Returns:
            Seconds of each inference, and CPU seconds per second of wall clock over all of them.
        """
        reply = self._ask("run", iterations=iterations)
        return reply["seconds"], reply["cpu"] / reply["wall"]

    def outputs(self) -> list[np.ndarray]:
        """Run one inference and return its outputs, in the model's order."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "outputs.npz"
            self._ask("outputs", file=str(file))
            with np.load(file, allow_pickle=False) as arrays:
                return [arrays[name] for name in sorted(arrays.files)]

    def memory(self) -> dict[str, int]:
        """Return the RSS of the process in bytes: before_load, after_load, after_runs and peak."""
        return self._ask("memory")

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            # The pipe is broken if the process died before it read a request.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()
        if self._folder:
            self._folder.cleanup()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _modules(self) -> str:
        """PYTHONPATH of the worker: the module search path of this process.

        A worker of another environment has its own packages; it gets the package `aerogel` only.
        """
        if not self._folder:
            return os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        Path(self._folder.name, "aerogel").symlink_to(Path(aerogel.__file__).resolve().parent)
        return self._folder.name

    def _ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeLoadError(f"{self.model}: the process that measures it {self._death()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            known = reply["error"] in errors.__all__
            error: type[AerogelError] = getattr(errors, reply["error"]) if known else RuntimeLoadError
            raise error(reply["message"])
        return reply

    def _death(self) -> str:
        """Describe how the process ended, with the last line of its standard error."""
        status = self._process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if -status == signal.SIGKILL:
            return f"{how}; the system may be out of memory: free some, or measure a smaller model"
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return f"{how} ({lines[-1]})" if lines else how
