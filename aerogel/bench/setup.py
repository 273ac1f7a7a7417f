"""Load jobs in worker processes, each with the fastest variant of its backend."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from aerogel.bench.backend import Backend
from aerogel.bench.inputs import vocabulary
from aerogel.bench.jobs import Job
from aerogel.bench.model import OnnxFile, scan
from aerogel.bench.process import Worker
from aerogel.bench.result import STOCK, Settings
from aerogel.bench.statistics import summarise
from aerogel.registry import Registry

__all__ = [
    "Opened", "Progress", "Runs", "alternate", "iterations_per_round", "open_fastest", "stock_outputs",
]  # fmt: skip

# Duration of a round of the slowest backend if --repeats is not given.
_ROUND_SECONDS = 0.5
_WARMUP_ROUNDS = 3

Progress = Callable[[str, int, int], None]


class Runs(Protocol):
    """Anything that can be timed: a `Worker`, or a substitute in tests."""

    def run(self, iterations: int) -> tuple[list[float], float]:
        """See `Worker.run`."""


@dataclass
class Opened:
    """A job that is loaded in a worker.

    Attributes:
        job: what is measured.
        worker: the process that runs it.
        variant: the variant that is loaded.
        file: the file that is loaded, after conversion.
        variant_ms: median milliseconds of each variant during warm-up; empty if there is only one.
    """

    job: Job
    worker: Worker
    variant: str
    file: OnnxFile
    variant_ms: dict[str, float] = field(default_factory=dict)


def open_fastest(job: Job, settings: Settings, registry: Registry[Backend], work: Path) -> Opened:
    """Start a worker for each variant of the backend, time them in turns, and keep the fastest.

    Args:
        job: what to load.
        settings: the configuration to measure.
        registry: all backends.
        work: folder in which converted files are kept for reuse.

    Raises:
        AerogelError: the model cannot be converted, loaded or run.
    """
    backend = registry.get(job.backend)
    folder = work / f"{_fingerprint(job.model.path)}-{job.backend}"
    variant_ms: dict[str, float] = {}
    with ExitStack() as stack:
        workers, files = {}, {}
        for variant in backend.variants:
            files[variant] = backend.prepare(job.model.path, variant, folder, settings.batch, settings.seq)
            workers[variant] = stack.enter_context(_worker(job, settings, registry, variant, files[variant]))
        if len(workers) > 1:
            iterations = iterations_per_round(workers.values())
            timed = alternate(list(workers.values()), _WARMUP_ROUNDS, iterations)
            for variant, rounds in zip(workers, timed, strict=True):
                variant_ms[variant] = summarise([seconds for seconds, _ in rounds]).median
        best = min(workers, key=lambda variant: variant_ms.get(variant, 0.0))
        winner = workers.pop(best)
        # Nothing failed. Close only the slower workers from here on.
        stack.pop_all()
    for worker in workers.values():
        worker.close()
    file = files[best]
    return Opened(job, winner, best, job.model if file == job.model.path else scan(file), variant_ms)


def stock_outputs(model: OnnxFile, settings: Settings, registry: Registry[Backend]) -> list[np.ndarray]:
    """Return the outputs of stock ONNX Runtime on `model`."""
    job = Job(model, STOCK, "", model)
    variant = registry.get(STOCK).variants[0]
    with _worker(job, settings, registry, variant, model.path) as worker:
        return worker.outputs()


def alternate(
    workers: Sequence[Runs], rounds: int, iterations: int, progress: Progress | None = None
) -> list[list[tuple[list[float], float]]]:
    """Run every worker in every round, in reverse order every second round.

    The order A, B, B, A, A, B ... spreads drift (clock, temperature, other processes) evenly over all workers.

    Returns:
        For each worker and round, the result of `Worker.run`.
    """
    timed: list[list[tuple[list[float], float]]] = [[] for _ in workers]
    for number in range(rounds):
        order = range(len(workers)) if number % 2 == 0 else range(len(workers) - 1, -1, -1)
        for index in order:
            timed[index].append(workers[index].run(iterations))
        if progress:
            progress("measuring", number + 1, rounds)
    return timed


def iterations_per_round(workers: Iterable[Runs]) -> int:
    """Return how many iterations take the slowest worker about half a second, between 3 and 200."""
    slowest = max(min(worker.run(2)[0]) for worker in workers)
    return min(max(math.ceil(_ROUND_SECONDS / slowest), 3), 200)


def _worker(job: Job, settings: Settings, registry: Registry[Backend], variant: str, file: Path) -> Worker:
    return Worker(
        registry.module(job.backend),
        file,
        python=registry.get(job.backend).python(),
        threads=settings.threads,
        variant=variant,
        batch=settings.batch,
        seq=settings.seq,
        # The reference's vocabulary: outputs can be compared only if the inputs are the same.
        vocab=vocabulary(job.reference.path),
        seed=settings.seed,
        lengths=settings.lengths,
    )


def _fingerprint(path: Path) -> str:
    """A short name that changes when the file does."""
    state = path.stat()
    return hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
