"""Opening candidates in workers, each with its fastest setting."""

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

__all__ = ["Opened", "Progress", "Runs", "alternate", "fill_round", "open_fastest", "stock_outputs"]

# A round of the slowest candidate lasts about this long where --repeats is not given.
_ROUND_SECONDS = 0.5
_TUNING_ROUNDS = 3

Progress = Callable[[str, int, int], None]


class Runs(Protocol):
    """Anything that can be timed: a `Worker`, or a stand-in for one."""

    def run(self, iterations: int) -> tuple[list[float], float]:
        """See `Worker.run`."""


@dataclass
class Opened:
    """A pair whose worker runs: its setting, the file that was opened, median milliseconds by setting tried."""

    pair: Job
    worker: Worker
    setting: str
    file: OnnxFile
    tried: dict[str, float] = field(default_factory=dict)


def open_fastest(pair: Job, settings: Settings, candidates: Registry[Backend], work: Path) -> Opened:
    """Open a worker per setting of the candidate, time them in turns, keep the fastest and end the others.

    Args:
        pair: what to open.
        settings: the point that is measured.
        candidates: registry of candidates.
        work: folder for converted files, which are found there again.

    Raises:
        AerogelError: the model cannot be converted, loaded or run.
    """
    candidate = candidates.get(pair.candidate)
    folder = work / f"{_fingerprint(pair.model.path)}-{pair.candidate}"
    tried: dict[str, float] = {}
    with ExitStack() as stack:
        workers, files = {}, {}
        for setting in candidate.settings:
            files[setting] = candidate.prepare(pair.model.path, setting, folder, settings.batch, settings.seq)
            workers[setting] = stack.enter_context(
                _worker(pair, settings, candidates, setting, files[setting])
            )
        if len(workers) > 1:
            timed = alternate(list(workers.values()), _TUNING_ROUNDS, fill_round(workers.values()))
            for setting, rounds in zip(workers, timed, strict=True):
                tried[setting] = summarise([seconds for seconds, _ in rounds]).median
        best = min(workers, key=lambda setting: tried.get(setting, 0.0))
        winner = workers.pop(best)
        # All went well: from here on only the losers end.
        stack.pop_all()
    for worker in workers.values():
        worker.close()
    file = files[best]
    return Opened(pair, winner, best, pair.model if file == pair.model.path else scan(file), tried)


def stock_outputs(model: OnnxFile, settings: Settings, candidates: Registry[Backend]) -> list[np.ndarray]:
    """What stock ONNX Runtime gives on `model`."""
    pair = Job(model, STOCK, "", model)
    setting = candidates.get(STOCK).settings[0]
    with _worker(pair, settings, candidates, setting, model.path) as worker:
        return worker.outputs()


def alternate(
    workers: Sequence[Runs], rounds: int, repeats: int, progress: Progress | None = None
) -> list[list[tuple[list[float], float]]]:
    """Give every worker its turn in every round, forwards and backwards by turns.

    A, B, B, A, A, B ... : whatever drifts (clock, temperature, a neighbour's work) falls on all alike.

    Returns:
        Per worker and round, what `Worker.run` returned.
    """
    timed: list[list[tuple[list[float], float]]] = [[] for _ in workers]
    for number in range(rounds):
        order = range(len(workers)) if number % 2 == 0 else range(len(workers) - 1, -1, -1)
        for index in order:
            timed[index].append(workers[index].run(repeats))
        if progress:
            progress("measuring", number + 1, rounds)
    return timed


def fill_round(workers: Iterable[Runs]) -> int:
    """Inferences that take the slowest worker about `_ROUND_SECONDS`, between 3 and 200."""
    slowest = max(min(worker.run(2)[0]) for worker in workers)
    return min(max(math.ceil(_ROUND_SECONDS / slowest), 3), 200)


def _worker(pair: Job, settings: Settings, candidates: Registry[Backend], setting: str, file: Path) -> Worker:
    return Worker(
        candidates.module(pair.candidate),
        file,
        python=candidates.get(pair.candidate).python(),
        threads=settings.threads,
        setting=setting,
        batch=settings.batch,
        seq=settings.seq,
        # The reference's: what is compared must have been fed the same.
        vocab=vocabulary(pair.reference.path),
        seed=settings.seed,
        lengths=settings.lengths,
    )


def _fingerprint(path: Path) -> str:
    """A short name that changes when the file does."""
    state = path.stat()
    return hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
