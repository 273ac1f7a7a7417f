"""Units of work: rows, one per distinct text in flight, and jobs, one per request, which wait for rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from aerogel.model import Encoded
from aerogel.model.batch import Batch

__all__ = ["Job", "Row", "key_of"]

Key = bytes | tuple[bytes, bytes]
"""What makes two texts the same work."""


def key_of(encoded: Encoded) -> Key:
    """Key of a text: its token ids and token types."""
    ids = encoded.ids.tobytes()
    return ids if encoded.types is None else (ids, encoded.types.tobytes())


class Row:
    """A text to run, for one or more jobs.

    Attributes:
        encoded: the text.
        key: its key.
        size: number of tokens, at least 1.
        tag: place in the queue; see `aerogel.serve.queue`.
        number: order of arrival, for equal tags.
        waiters: the jobs that wait for it, with the index of the text in each.
        queued: whether the row is in the queue and some job waits for it.
    """

    __slots__ = ("encoded", "key", "number", "queued", "size", "tag", "waiters")

    def __init__(self, encoded: Encoded, key: Key) -> None:
        self.encoded, self.key = encoded, key
        self.size = max(1, len(encoded))
        self.tag, self.number = 0.0, 0
        self.waiters: list[tuple[Job, int]] = []
        self.queued = False

    def __lt__(self, other: Row) -> bool:
        return (self.tag, self.number) < (other.tag, other.number)

    def wanted(self) -> bool:
        """Whether a job still waits for the row."""
        return any(not job.future.done() for job, _ in self.waiters)


class Job:
    """The texts of one request.

    Attributes:
        future: result of the request; cancelled when the client disconnects.
        rows: the rows that the job waits for.
        tokens: number of tokens of all its texts.
        last_tag: place in the queue of its last row so far.
        enqueued: time of `time.perf_counter` at which the job was admitted, in seconds.
        started: time at which its first row began to run, or None.
        ended: time at which its last row ended.
    """

    __slots__ = (
        "_arrays", "_finish", "_lengths", "_missing", "ended", "enqueued", "future", "last_tag", "rows", "started",
        "timer", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        encoded: Sequence[Encoded],
        finish: Callable[[Iterable[Batch]], Any],
        future: asyncio.Future[Any],
        now: float,
    ) -> None:
        self._finish = finish
        self._lengths = [len(item) for item in encoded]
        self._arrays: list[Sequence[np.ndarray] | None] = [None] * len(encoded)
        self._missing = len(encoded)
        self.future = future
        self.rows: list[Row] = []
        self.tokens = sum(self._lengths)
        self.last_tag = 0.0
        self.enqueued = now
        self.started: float | None = None
        self.ended = now
        self.timer: asyncio.TimerHandle | None = None

    def put(self, index: int, arrays: Sequence[np.ndarray], now: float) -> None:
        """Store the outputs of a text; with the last one, set the result of the future."""
        self._arrays[index] = arrays
        self._missing -= 1
        if self._missing or self.future.done():
            return
        self.ended = now
        outputs = list(zip(*(item for item in self._arrays if item is not None), strict=True))
        batch = Batch(list(range(len(self._lengths))), self._lengths, max(self._lengths), outputs)
        try:
            self.future.set_result(self._finish([batch]))
        except Exception as error:  # a head may refuse the outputs of a damaged model
            self.future.set_exception(error)
        finally:
            self._arrays = []
