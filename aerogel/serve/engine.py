"""Threads that run batches in ONNX Runtime, which releases Python's lock."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from aerogel.model import Model
from aerogel.model.batch import Batch
from aerogel.runtime import session
from aerogel.serve.rows import Row

__all__ = ["Engine", "Layout"]


@dataclass(frozen=True)
class Layout:
    """How a model runs.

    Attributes:
        workers: batches at the same time.
        threads: threads of each batch.
        batch_tokens: largest number of tokens in a batch.
        rate: tokens per second of one worker while all work.
    """

    workers: int
    threads: int
    batch_tokens: int
    rate: float


class Engine:
    """Workers for a model; see `aerogel.serve.scheduler.Workers`.

    Workers of one thread share a session, because ONNX Runtime then runs a batch on the thread that calls it. With
    more threads, each worker has a session with its own threads.

    Args:
        model: the model, loaded with `layout.threads` threads.
        layout: workers and threads.
        library: as in `aerogel.load`.
    """

    def __init__(self, model: Model, layout: Layout, *, library: bool | None = None) -> None:
        self._model = model
        self.count, self.batch_tokens, self.rate = layout.workers, layout.batch_tokens, layout.rate
        self.batch_tokens = min(self.batch_tokens, model.max_batch_tokens)
        self.max_rows, self.mixed = model.max_rows, model.fused
        others = layout.workers - 1 if layout.threads > 1 else 0
        self._sessions: SimpleQueue[Any] = SimpleQueue()
        for _ in range(layout.workers - others):
            self._sessions.put(None)
        for _ in range(others):
            self._sessions.put(session(model.path, layout.threads, library=library))
        self._pool = ThreadPoolExecutor(
            layout.workers, thread_name_prefix="aerogel", initializer=_yield_to_loop
        )

    def submit(self, rows: Sequence[Row]) -> asyncio.Future[tuple[Batch, float]]:
        """Run rows; the result is their outputs and the seconds that it took."""
        return asyncio.get_running_loop().run_in_executor(self._pool, self.run, rows)

    def run(self, rows: Sequence[Row]) -> tuple[Batch, float]:
        """Run rows on the calling thread."""
        began = time.perf_counter()
        opened = self._sessions.get()
        try:
            batch = self._model.run_batch([row.encoded for row in rows], opened)
        finally:
            self._sessions.put(opened)
        return batch, time.perf_counter() - began

    def submit_arrays(
        self, feed: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> asyncio.Future[list[np.ndarray]]:
        """Run arrays as a batch of their own; the result is `Model.run_arrays`."""

        def run() -> list[np.ndarray]:
            opened = self._sessions.get()
            try:
                return self._model.run_arrays(feed, outputs, opened)
            finally:
                self._sessions.put(opened)

        return asyncio.get_running_loop().run_in_executor(self._pool, run)

    def close(self) -> None:
        """Release threads and sessions; running batches finish."""
        self._pool.shutdown(wait=False)
        while not self._sessions.empty():
            self._sessions.get()


def _yield_to_loop() -> None:
    """Lower the priority of a worker's thread, so that requests are read while batches run on all cores."""
    if hasattr(os, "gettid"):
        os.setpriority(os.PRIO_PROCESS, os.gettid(), min(19, os.getpriority(os.PRIO_PROCESS, 0) + 1))
