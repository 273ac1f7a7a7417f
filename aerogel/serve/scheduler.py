"""Run the texts of many requests in batches of tokens, on several workers.

All state belongs to the thread of the event loop; only the engine's workers run elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from aerogel.model.batch import Batch, Call
from aerogel.serve.queue import FairQueue
from aerogel.serve.refusals import BackendFailed, Expired, Overloaded, Unavailable
from aerogel.serve.result_cache import ResultCache
from aerogel.serve.rows import Job, Key, Row, key_of

__all__ = ["Observer", "Scheduler", "Workers"]

# Weight of a full batch in the moving average of the rate.
_NEWEST = 0.1


class Workers(Protocol):
    """What runs batches; `aerogel.serve.engine.Engine` is one."""

    count: int
    """Number of batches that can run at the same time."""
    batch_tokens: int
    """Largest number of tokens in a batch; one longer text may exceed it."""
    max_rows: int | None
    """Largest number of texts in a batch."""
    mixed: bool
    """Whether texts of different lengths may share a batch."""
    rate: float
    """Tokens per second of one worker, measured at the start."""

    def submit(self, rows: Sequence[Row]) -> asyncio.Future[tuple[Batch, float]]:
        """Run rows; the result is their outputs and the seconds that it took."""


class Observer:
    """Called for events of a scheduler; metrics and log override it."""

    def batch(self, rows: int, tokens: int) -> None:
        """A batch begins."""

    def queue(self, tokens: int) -> None:
        """The number of queued tokens has changed."""

    def failed(self, error: BaseException) -> None:
        """A batch has failed."""


class Scheduler:
    """Admits jobs, makes batches and hands results out.

    Args:
        workers: what runs the batches.
        queue_tokens: a request is refused while at least this number of tokens is queued.
        cache_bytes: size of the result cache.
        observer: receives batches and the size of the queue.
    """

    def __init__(
        self, workers: Workers, *, queue_tokens: int, cache_bytes: int = 0, observer: Observer | None = None
    ) -> None:
        self._workers = workers
        self._queue_tokens = queue_tokens
        self._queue = FairQueue(mixed=workers.mixed)
        self._cache = ResultCache(cache_bytes)
        self._observer = observer or Observer()
        self._in_flight: dict[Key, Row] = {}
        self._free = workers.count
        self._rate = workers.rate
        self._scheduled = False
        self._closed = False
        self._running_tokens = 0
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def queued(self) -> int:
        """Number of queued tokens."""
        return self._queue.tokens

    def submit(self, call: Call, timeout: float | None = None) -> Job:
        """Admit the texts of a call.

        Args:
            call: the call.
            timeout: seconds within which the result is wanted; None waits without a limit. A job that waits longer is
                dropped, but one that runs is finished.

        Returns:
            The job; its `future` has the result of the call, or one of the exceptions of `refusals`.

        Raises:
            Overloaded: the queue is full, or the predicted wait is longer than `timeout`.
            Unavailable: the scheduler is closed.
        """
        if self._closed:
            raise Unavailable("the model is being unloaded; send the request again")
        now = time.perf_counter()
        job = Job(call.encoded, call.finish, self._loop.create_future(), now)
        if not call.encoded:
            job.future.set_result(call.finish([]))
            return job
        self._check(job.tokens, timeout)
        for index, item in enumerate(call.encoded):
            self._add(job, index, item)
        if job.rows:
            job.future.add_done_callback(lambda _: self._release(job))
            if timeout is not None:
                job.timer = self._loop.call_later(timeout, self._expire, job)
            self._schedule()
        return job

    async def close(self) -> None:
        """Refuse new jobs and wait until the queue is empty and no batch runs."""
        self._closed = True
        await self._idle.wait()

    def wait(self, tokens: int) -> float:
        """Predicted seconds until a new request of `tokens` tokens has run."""
        return (self._queue.ahead(tokens) + self._running_tokens / 2) / (self._rate * self._workers.count)

    def _check(self, tokens: int, timeout: float | None) -> None:
        if self._queue.tokens >= self._queue_tokens:
            raise Overloaded(
                f"the queue is full: {self._queue.tokens} of {self._queue_tokens} tokens; send the request later",
                (self._queue.tokens - self._queue_tokens + tokens) / (self._rate * self._workers.count),
            )
        # All that is queued bounds the wait and is known at once; counting what is ahead takes time.
        bound = (self._queue.tokens + self._running_tokens + tokens) / (self._rate * self._workers.count)
        if timeout is None or bound <= timeout or (predicted := self.wait(tokens)) <= timeout:
            return
        raise Overloaded(
            f"the predicted wait is {predicted:.2f} s, and the request may take {timeout:g} s; send it later",
            predicted - timeout,
        )

    def _add(self, job: Job, index: int, item: Any) -> None:
        key = key_of(item)
        row = self._in_flight.get(key)
        if row is None:
            if (cached := self._cache.get(key)) is not None:
                job.put(index, cached, time.perf_counter())
                return
            row = self._in_flight[key] = Row(item, key)
            self._queue.push(row, job)
            self._idle.clear()
        elif row.queued:
            self._queue.share(row, job)
        elif job.started is None:
            job.started = job.enqueued
        row.waiters.append((job, index))
        job.rows.append(row)

    def _schedule(self) -> None:
        """Make batches once the loop has handled what arrived together, so that it shares a batch."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        workers = self._workers
        while self._free and self._queue.tokens:
            # With few tokens, all free workers get a part.
            share = -(-self._queue.tokens // self._free)
            rows = self._queue.take(min(workers.batch_tokens, share), workers.max_rows)
            tokens = sum(row.size for row in rows)
            self._free -= 1
            self._running_tokens += tokens
            now = time.perf_counter()
            for row in rows:
                for job, _ in row.waiters:
                    if job.started is None:
                        job.started = now
            self._observer.batch(len(rows), tokens)
            workers.submit(rows).add_done_callback(partial(self._done, rows, tokens))
        self._observer.queue(self._queue.tokens)
        if not self._queue.tokens and self._free == workers.count:
            self._idle.set()

    def _done(self, rows: Sequence[Row], tokens: int, done: asyncio.Future[tuple[Batch, float]]) -> None:
        self._free += 1
        self._running_tokens -= tokens
        for row in rows:
            del self._in_flight[row.key]
        error = done.exception()
        if error is None:
            batch, seconds = done.result()
            # Small batches say little about the rate of a full queue.
            weight = _NEWEST * min(1, tokens / self._workers.batch_tokens)
            self._rate += weight * (tokens / max(seconds, 1e-6) - self._rate)
            # Before the results are handed out, so that the worker does not wait for that.
            self._dispatch()
            self._hand_out(rows, batch)
            return
        self._observer.failed(error)
        for job in {job for row in rows for job, _ in row.waiters}:
            if not job.future.done():
                job.future.set_exception(
                    BackendFailed("the model failed; the log of the server has the reason")
                )
        self._dispatch()

    def _hand_out(self, rows: Sequence[Row], batch: Batch) -> None:
        now = time.perf_counter()
        for position, row in enumerate(rows):
            arrays: list[np.ndarray] = [array[position] for array in batch.arrays]
            self._cache.put(row.key, arrays)
            for job, index in row.waiters:
                if not job.future.done():
                    job.put(index, arrays, now)

    def _release(self, job: Job) -> None:
        """Take a job's rows out of the queue where no other job waits for them."""
        if job.timer is not None:
            job.timer.cancel()
        if not job.future.cancelled() and job.future.exception() is None:
            return
        for row in job.rows:
            if row.queued and not row.wanted():
                self._queue.forget(row)
                del self._in_flight[row.key]
        self._schedule()

    def _expire(self, job: Job) -> None:
        """Drop a job of which no row has begun to run."""
        if job.started is None and not job.future.done():
            job.future.set_exception(
                Expired("the deadline passed while the request was queued", self.wait(job.tokens))
            )
