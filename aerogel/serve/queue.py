"""The queue of rows: fair between requests, bounded in tokens.

Each row has a tag: its request's previous tag, or the present virtual time if that is later, plus the row's tokens.
Rows leave in the order of their tags (start-time fair queueing), so that a request of one text does not wait for all
texts of a long list that came before it. The virtual time is the tag of the row that left last.
"""

from __future__ import annotations

import heapq

from aerogel.serve.rows import Job, Row

__all__ = ["FairQueue"]

# Largest padded batch, in multiples of its real tokens. Padding costs only the layers outside of the encoder.
_MAX_PADDED = 4


class FairQueue:
    """Rows that wait.

    Args:
        mixed: whether texts of different lengths may share a batch.

    Attributes:
        tokens: number of tokens of the rows that some job waits for.
    """

    def __init__(self, *, mixed: bool) -> None:
        self._mixed = mixed
        # One heap; without `mixed`, one for each length.
        self._heaps: dict[int, list[Row]] = {}
        self._virtual = 0.0
        self._pushed = 0
        self.tokens = 0

    def push(self, row: Row, job: Job) -> None:
        """Add a row of a job."""
        row.tag = job.last_tag = max(job.last_tag, self._virtual) + row.size
        self._pushed += 1
        row.number, row.queued = self._pushed, True
        self.tokens += row.size
        heapq.heappush(self._heaps.setdefault(0 if self._mixed else row.size, []), row)

    def share(self, row: Row, job: Job) -> None:
        """Note that another job waits for a queued row; it moves forward if that job's own row would run earlier."""
        tag = max(job.last_tag, self._virtual) + row.size
        if tag < row.tag:
            row.tag = job.last_tag = tag
            heapq.heapify(self._heaps[0 if self._mixed else row.size])

    def forget(self, row: Row) -> None:
        """Note that no job waits for a queued row any longer; it leaves the queue without running."""
        row.queued = False
        self.tokens -= row.size
        if not self.tokens:
            self._heaps.clear()

    def ahead(self, tokens: int) -> int:
        """Number of queued tokens that would run before or with a new request of `tokens` tokens, itself included."""
        if not self.tokens:
            return tokens
        last = self._virtual + tokens
        return tokens + sum(
            row.size for heap in self._heaps.values() for row in heap if row.queued and row.tag <= last
        )

    def take(self, budget: int, max_rows: int | None) -> list[Row]:
        """Remove the rows of the next batch: at most `budget` tokens, but at least one row if any waits."""
        heap = self._next_heap()
        rows: list[Row] = []
        tokens = longest = 0
        while heap:
            row = heap[0]
            if not row.queued:
                heapq.heappop(heap)
                continue
            longest = max(longest, row.size)
            if rows and (
                tokens + row.size > budget
                or longest * (len(rows) + 1) > _MAX_PADDED * budget
                or (max_rows is not None and len(rows) >= max_rows)
            ):
                break
            heapq.heappop(heap)
            row.queued = False
            self._virtual = max(self._virtual, row.tag)
            tokens += row.size
            rows.append(row)
        self.tokens -= tokens
        return rows

    def _next_heap(self) -> list[Row]:
        """The heap with the row that is to leave next."""
        for length, heap in list(self._heaps.items()):
            while heap and not heap[0].queued:
                heapq.heappop(heap)
            if not heap:
                del self._heaps[length]
        return min(self._heaps.values(), key=lambda heap: heap[0].tag, default=[])
