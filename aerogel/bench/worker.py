"""The process that measures one model on one backend: ``python -m aerogel.bench.worker``.

It imports numpy and the backend's runtime only, so that its memory is that of the backend. It reads requests from
standard input and writes replies to standard output, one JSON object per line (see `aerogel.bench.process`).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bench import memory
from aerogel.bench.backend import Backend
from aerogel.bench.inputs import feeds
from aerogel.errors import AerogelError, UsageError

__all__ = ["main"]


class _Opened:
    """A model that is loaded and has run once."""

    def __init__(
        self,
        *,
        module: str,
        model: str,
        threads: int,
        variant: str,
        batch: int,
        seq: int,
        vocab: int,
        seed: int,
        lengths: Sequence[int] = (),
    ) -> None:
        backend: Backend = importlib.import_module(module).BACKEND
        self._memory = {"before_load": memory.resident()}
        start = time.perf_counter()
        self._runner = backend.open(Path(model), threads, variant, batch, seq)
        self._open_seconds = time.perf_counter() - start
        self._memory["after_load"] = memory.resident()
        try:
            self._feeds = feeds(
                Path(model),
                self._runner.inputs,
                batch=batch,
                seq=seq,
                vocab=vocab,
                seed=seed,
                lengths=lengths,
            )
            self._runner.run(self._feeds)
        except AerogelError:
            raise
        except MemoryError:
            raise UsageError(
                f"{model}: --batch {batch} --seq {seq} do not fit into memory; give smaller numbers"
            ) from None
        except Exception as error:  # every runtime raises its own types
            raise UsageError(f"{model} does not run at --batch {batch} --seq {seq}: {error}") from error

    def opened(self) -> dict[str, Any]:
        return {"load_seconds": self._open_seconds, "details": self._runner.details}

    def run(self, iterations: int) -> dict[str, Any]:
        """Time `iterations` inferences, after one that warms the caches."""
        self._runner.run(self._feeds)
        gc.collect()
        gc.disable()
        seconds = []
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(iterations):
            start = time.perf_counter()
            self._runner.run(self._feeds)
            seconds.append(time.perf_counter() - start)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        gc.enable()
        return {"seconds": seconds, "cpu": cpu, "wall": wall}

    def outputs(self, file: str) -> dict[str, Any]:
        """Write the outputs to an .npz file, named by their position."""
        arrays = self._runner.run(self._feeds)
        np.savez(file, **{f"{i:04d}": np.asarray(array) for i, array in enumerate(arrays)})  # type: ignore[arg-type]  # numpy's stub takes **kwds for allow_pickle
        return {}

    def memory(self) -> dict[str, Any]:
        return self._memory | {"after_runs": memory.resident(), "peak": memory.peak()}


def main() -> None:
    """Answer requests until standard input ends."""
    # Runtimes print to standard output too. Replies go to a private copy of it; all other output is redirected to
    # standard error.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    opened: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        verb = request.pop("do")
        try:
            if verb == "open":
                opened = _Opened(**request)
                reply = opened.opened()
            else:
                reply = getattr(opened, verb)(**request)
        except AerogelError as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        except MemoryError:
            reply = {"error": "RuntimeLoadError", "message": "out of memory; measure with a smaller --batch"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
