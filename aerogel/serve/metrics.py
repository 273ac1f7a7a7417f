"""Metrics under the names of text-embeddings-inference, and some of our own that begin with ``aerogel_``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from aerogel.serve.log import Log
from aerogel.serve.scheduler import Observer

__all__ = ["MULTIPROCESS", "Metrics", "proportional_memory"]

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which several processes share their metrics."""

# No time of creation beside each value.
disable_created_metrics()

_SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30,
)  # fmt: skip
_TOKENS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Metrics:
    """The metrics of a process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        live: dict[str, Any] = {**own, "multiprocess_mode": "livesum"}
        self._count = Counter("te_request_count", "Requests", ["method"], **own)
        self._success = Counter("te_request_success", "Answered requests", ["method"], **own)
        self._failure = Counter("te_request_failure", "Refused and failed requests", ["err"], **own)
        self._durations = {
            name: Histogram(f"te_request{suffix}_duration", f"Seconds: {name}", buckets=_SECONDS, **own)
            for name, suffix in (
                ("total", ""), ("tokenization", "_tokenization"), ("queue", "_queue"), ("inference", "_inference"),
            )
        }  # fmt: skip
        self._length = Histogram("te_request_input_length", "Tokens of a request", buckets=_TOKENS, **own)
        self._queue = Gauge("te_queue_size", "Queued tokens", ["model"], **live)
        self._batch_size = Histogram("te_batch_next_size", "Texts of a batch", buckets=_TOKENS, **own)
        self._batch_tokens = Histogram("te_batch_next_tokens", "Tokens of a batch", buckets=_TOKENS, **own)
        self._tokens = Counter("aerogel_tokens", "Tokens that were run", ["model"], **own)
        self._info = Gauge(
            "aerogel_model", "1 for each model in service",
            ["model", "head", "density", "fused", "isa", "workers", "threads", "batch_tokens"], **live,
        )  # fmt: skip
        self._lost = Gauge("aerogel_log_lines_lost", "Lines that could not be written to the log", **live)
        self._memory = Gauge(
            "aerogel_memory_bytes",
            "Memory of all processes; pages that several share are counted once",
            **live,
        )
        self._children: dict[str, tuple[Any, Any]] = {}

    def answered(self, label: str, seconds: float) -> None:
        """Count a request that was answered."""
        count, success = self._of(label)
        count.inc()
        success.inc()
        self._durations["total"].observe(seconds)

    def refused(self, label: str, reason: str) -> None:
        """Count a request that was refused or failed."""
        self._of(label)[0].inc()
        self._failure.labels(reason).inc()

    def ran(self, tokens: int, tokenization: float, queue: float, inference: float) -> None:
        """Note the tokens of a request, and its times in seconds."""
        self._length.observe(tokens)
        self._durations["tokenization"].observe(tokenization)
        self._durations["queue"].observe(queue)
        self._durations["inference"].observe(inference)

    def observer(self, model: str, log: Log) -> Observer:
        """The receiver of the events of a model's scheduler; `log` gets the reasons of failures."""
        return _Observer(
            model,
            log,
            self._queue.labels(model),
            self._batch_size,
            self._batch_tokens,
            self._tokens.labels(model),
        )

    def models(self, found: list[tuple[str, ...]]) -> None:
        """Set the models in service, as values of the labels of ``aerogel_model``."""
        self._info.clear()
        for labels in found:
            self._info.labels(*labels).set(1)

    def lost(self, lines: int) -> None:
        """Set the number of lines that the log has lost."""
        self._lost.set(lines)

    def memory(self) -> None:
        """Measure the memory of this process, with its part of the pages that it shares with others."""
        if (size := proportional_memory()) is not None:
            self._memory.set(size)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format, those of other processes of the server included."""
        registry = self._registry
        if MULTIPROCESS in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        # The client library appends _total to the names of counters, which text-embeddings-inference does not have.
        return re.sub(rb"\b(te_\w+)_total\b", rb"\1", generate_latest(registry))

    def _of(self, label: str) -> tuple[Any, Any]:
        found = self._children.get(label)
        if found is None:
            found = self._children[label] = self._count.labels(label), self._success.labels(label)
        return found


def proportional_memory() -> int | None:
    """Proportional set size of this process in bytes; None where the system does not tell."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


class _Observer(Observer):
    def __init__(
        self, model: str, log: Log, queue: Gauge, size: Histogram, batch: Histogram, tokens: Counter
    ) -> None:
        self._model, self._log = model, log
        self._queue, self._size, self._batch, self._tokens = queue, size, batch, tokens

    def batch(self, rows: int, tokens: int) -> None:
        self._size.observe(rows)
        self._batch.observe(tokens)
        self._tokens.inc(tokens)

    def queue(self, tokens: int) -> None:
        self._queue.set(tokens)

    def failed(self, error: BaseException) -> None:
        self._log.failure("batch failed", error, model=self._model)
