"""The scheduler with workers that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from aerogel.errors import ArtifactError
from aerogel.model import Encoded
from aerogel.model.batch import Batch, Call
from aerogel.serve.refusals import BackendFailed, Expired, Overloaded, Unavailable
from aerogel.serve.rows import Job, Row
from aerogel.serve.scheduler import Observer, Scheduler


class Workers:
    """Workers whose batches end when the test says so; the output of a text is the sum of its token ids."""

    def __init__(self, count: int = 1, batch_tokens: int = 100, rate: float = 1000.0) -> None:
        self.count, self.batch_tokens, self.rate = count, batch_tokens, rate
        self.max_rows, self.mixed = None, True
        self.batches: list[tuple[list[int], asyncio.Future[Any], Sequence[Row]]] = []

    def submit(self, rows: Sequence[Row]) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self.batches.append(([int(row.encoded.ids[0]) for row in rows], future, rows))
        return future

    def ran(self) -> list[list[int]]:
        """First token ids of the texts of each batch."""
        return [ids for ids, _, _ in self.batches]

    async def finish(self, error: Exception | None = None) -> None:
        """End the oldest batch that runs."""
        _, future, rows = next(batch for batch in self.batches if not batch[1].done())
        if error is not None:
            future.set_exception(error)
        else:
            sums = np.array([[row.encoded.ids.sum()] for row in rows], np.float32)
            lengths = [len(row.encoded) for row in rows]
            seconds = sum(lengths) / self.rate
            future.set_result((Batch(list(range(len(rows))), lengths, max(lengths), [sums]), seconds))
        await _settle()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _call(*texts: tuple[int, int]) -> Call:
    """A call with texts given as (token id, length); its result is the list of their sums."""

    def finish(batches: Iterable[Batch]) -> list[float]:
        return [float(array[0]) for batch in batches for _, array in batch.each()]

    return Call(
        [Encoded("", np.full(length, number, np.int32)) for number, length in texts], ("out",), finish
    )


def _run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 30))


def _submit(scheduler: Scheduler, *texts: tuple[int, int], timeout: float | None = None) -> Job:
    return scheduler.submit(_call(*texts), timeout)


def test_requests_that_arrive_together_share_a_batch() -> None:
    async def body() -> None:
        workers = Workers()
        scheduler = Scheduler(workers, queue_tokens=1000)
        jobs = [_submit(scheduler, (1, 10)), _submit(scheduler, (2, 20), (3, 5))]
        await _settle()
        assert workers.ran() == [[1, 2, 3]]
        await workers.finish()
        assert [job.future.result() for job in jobs] == [[10.0], [40.0, 15.0]]
        assert jobs[1].tokens == 25

    _run(body)


def test_long_lists_are_split_and_not_refused() -> None:
    async def body() -> None:
        workers = Workers(batch_tokens=30)
        scheduler = Scheduler(workers, queue_tokens=50)
        job = _submit(scheduler, *[(number, 10) for number in range(1, 11)])
        await _settle()
        for _ in range(4):
            await workers.finish()
        assert workers.ran() == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]
        assert job.future.result() == [10.0 * number for number in range(1, 11)]

    _run(body)


def test_few_texts_are_spread_over_free_workers() -> None:
    async def body() -> None:
        workers = Workers(count=2)
        scheduler = Scheduler(workers, queue_tokens=1000)
        _submit(scheduler, (1, 10), (2, 10), (3, 10), (4, 10))
        await _settle()
        assert workers.ran() == [[1, 2], [3, 4]]

    _run(body)


def test_a_full_queue_refuses_single_texts_and_lists_alike() -> None:
    async def body() -> None:
        workers = Workers(batch_tokens=10)
        scheduler = Scheduler(workers, queue_tokens=2500)
        _submit(scheduler, *[(number, 10) for number in range(1, 300)])
        await _settle()
        for texts in ([(400, 3)], [(400, 3), (401, 3)]):
            with pytest.raises(Overloaded, match="the queue is full: 2980 of 2500 tokens") as caught:
                _submit(scheduler, *texts)
            assert (caught.value.status, caught.value.headers["retry-after"]) == (429, "1")

    _run(body)


def test_work_that_cannot_be_done_in_time_is_refused_at_once() -> None:
    async def body() -> None:
        workers = Workers(batch_tokens=100, rate=100.0)
        scheduler = Scheduler(workers, queue_tokens=10**6)
        with pytest.raises(Overloaded, match="the predicted wait is 6"):
            _submit(scheduler, (1, 600), timeout=5)
        _submit(scheduler, *[(number, 100) for number in range(1, 101)], timeout=200)
        await _settle()
        # About 100 s of work is queued. A short text runs before most of it, a list of 4000 tokens does not.
        accepted = _submit(scheduler, (200, 10), timeout=5)
        with pytest.raises(Overloaded) as caught:
            _submit(scheduler, *[(number, 100) for number in range(300, 340)], timeout=50)
        assert 20 <= int(caught.value.headers["retry-after"]) <= 50
        await workers.finish()
        await workers.finish()
        assert accepted.future.done()

    _run(body)


def test_what_expires_in_the_queue_does_not_run() -> None:
    async def body() -> None:
        workers = Workers(batch_tokens=10)
        scheduler = Scheduler(workers, queue_tokens=1000)
        running = _submit(scheduler, (1, 10), timeout=0.05)
        await _settle()
        waiting = _submit(scheduler, (2, 10), timeout=0.05)
        with pytest.raises(Expired, match="the deadline passed"):
            await waiting.future
        assert scheduler.queued == 0
        await workers.finish()
        assert running.future.result() == [10.0]
        assert workers.ran() == [[1]]

    _run(body)


def test_a_cancelled_request_leaves_the_queue() -> None:
    async def body() -> None:
        workers = Workers(batch_tokens=10)
        scheduler = Scheduler(workers, queue_tokens=1000)
        _submit(scheduler, (1, 10))
        gone, shared = _submit(scheduler, (2, 10), (3, 10)), _submit(scheduler, (3, 10))
        await _settle()
        gone.future.cancel()
        await _settle()
        assert scheduler.queued == 10
        for _ in range(2):
            await workers.finish()
        assert workers.ran() == [[1], [3]]
        assert shared.future.result() == [30.0]
        again = _submit(scheduler, (2, 10))
        await _settle()
        await workers.finish()
        assert again.future.result() == [20.0]

    _run(body)


def test_identical_texts_in_flight_are_computed_once() -> None:
    async def body() -> None:
        workers = Workers()
        scheduler = Scheduler(workers, queue_tokens=1000)
        jobs = [_submit(scheduler, (1, 10), (1, 10)), _submit(scheduler, (1, 10))]
        await _settle()
        jobs.append(_submit(scheduler, (1, 10), (2, 10)))
        await _settle()
        assert workers.ran() == [[1]]
        await workers.finish()
        await workers.finish()
        assert [job.future.result() for job in jobs] == [[10.0, 10.0], [10.0], [10.0, 20.0]]
        assert workers.ran() == [[1], [2]]

    _run(body)


@pytest.mark.parametrize(("cache_bytes", "batches"), [(0, 2), (10_000, 1)])
def test_the_result_cache_is_an_option(cache_bytes: int, batches: int) -> None:
    async def body() -> None:
        workers = Workers()
        scheduler = Scheduler(workers, queue_tokens=1000, cache_bytes=cache_bytes)
        for _ in range(2):
            job = _submit(scheduler, (1, 10))
            await _settle()
            if not job.future.done():
                await workers.finish()
            assert job.future.result() == [10.0]
        assert len(workers.batches) == batches

    _run(body)


def test_a_failed_batch_fails_its_requests_only() -> None:
    reasons: list[str] = []

    class Noting(Observer):
        def failed(self, error: BaseException) -> None:
            reasons.append(str(error))

    async def body() -> None:
        workers = Workers(batch_tokens=10)
        scheduler = Scheduler(workers, queue_tokens=1000, observer=Noting())
        failed, later = _submit(scheduler, (1, 10)), _submit(scheduler, (2, 10))
        await _settle()
        await workers.finish(ArtifactError("model.onnx failed: no"))
        # The reason names files: the log gets it, clients do not.
        assert reasons == ["model.onnx failed: no"]
        with pytest.raises(BackendFailed, match=r"^the model failed; the log of the server has the reason$"):
            failed.future.result()
        await workers.finish()
        assert later.future.result() == [20.0]

    _run(body)


def test_closing_finishes_what_was_admitted() -> None:
    async def body() -> None:
        workers = Workers(batch_tokens=10)
        scheduler = Scheduler(workers, queue_tokens=1000)
        jobs = [_submit(scheduler, (number, 10)) for number in (1, 2)]
        closing = asyncio.ensure_future(scheduler.close())
        await _settle()
        with pytest.raises(Unavailable):
            _submit(scheduler, (3, 10))
        assert not closing.done()
        await workers.finish()
        assert not closing.done()
        await workers.finish()
        await closing
        assert [job.future.result() for job in jobs] == [[10.0], [20.0]]

    _run(body)


def test_an_empty_list_needs_no_run() -> None:
    async def body() -> None:
        scheduler = Scheduler(Workers(), queue_tokens=1000)
        assert _submit(scheduler).future.result() == []
        await scheduler.close()

    _run(body)
