from __future__ import annotations

import numpy as np

from aerogel.model import Encoded
from aerogel.serve.queue import FairQueue
from aerogel.serve.rows import Job, Row, key_of


class _Future:
    def done(self) -> bool:
        return False


def _job(*lengths: int) -> tuple[Job, list[Row]]:
    texts = [Encoded("", np.full(length, length, np.int32)) for length in lengths]
    job = Job(texts, list, _Future(), 0.0)  # type: ignore[arg-type]
    return job, [Row(text, key_of(text)) for text in texts]


def _push(queue: FairQueue, *lengths: int) -> list[Row]:
    job, rows = _job(*lengths)
    for row in rows:
        queue.push(row, job)
    return rows


def test_rows_of_one_request_keep_their_order() -> None:
    queue = FairQueue(mixed=True)
    rows = _push(queue, 5, 4, 3)
    assert queue.tokens == 12
    assert queue.take(100, None) == rows
    assert (queue.tokens, queue.take(100, None)) == (0, [])


def test_a_short_request_does_not_wait_for_a_long_list() -> None:
    queue = FairQueue(mixed=True)
    long = _push(queue, *[10] * 50)
    assert queue.take(30, None) == long[:3]
    (short,) = _push(queue, 10)
    # Both lists have the same tag for their next row; the one that came first leaves first.
    assert set(queue.take(20, None)) == {long[3], short}


def test_a_batch_has_at_most_the_budget_or_one_row() -> None:
    queue = FairQueue(mixed=True)
    rows = _push(queue, 40, 6, 5, 4)
    assert queue.take(10, None) == rows[:1]
    assert queue.take(10, None) == rows[1:2]
    assert queue.take(10, 1) == rows[2:3]
    assert queue.take(10, None) == rows[3:]


def test_padding_is_bounded() -> None:
    queue = FairQueue(mixed=True)
    _push(queue, 100, *[1] * 100)
    batch = queue.take(200, None)
    assert max(row.size for row in batch) * len(batch) <= 4 * 200
    assert len(batch) == 8


def test_lengths_stay_apart_where_padding_changes_results() -> None:
    queue = FairQueue(mixed=False)
    rows = _push(queue, 3, 4, 3, 5, 4)
    assert queue.take(100, None) == [rows[0], rows[2]]
    assert queue.take(100, None) == [rows[1], rows[4]]
    assert queue.take(100, None) == [rows[3]]


def test_forgotten_rows_leave_without_running() -> None:
    queue = FairQueue(mixed=False)
    rows = _push(queue, 3, 3, 4)
    queue.forget(rows[0])
    queue.forget(rows[2])
    assert queue.tokens == 3
    assert queue.take(100, None) == [rows[1]]
    assert queue.take(100, None) == []


def test_only_what_is_ahead_counts_for_the_wait() -> None:
    queue = FairQueue(mixed=True)
    assert queue.ahead(7) == 7
    _push(queue, *[10] * 100)
    assert queue.ahead(20) == 20 + 20
    assert queue.ahead(5000) == 5000 + 1000


def test_a_shared_row_moves_forward() -> None:
    queue = FairQueue(mixed=True)
    rows = _push(queue, *[10] * 20)
    other, _ = _job(10)
    queue.share(rows[19], other)
    assert rows[19] in queue.take(20, None)
