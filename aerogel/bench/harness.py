"""The measurement: open every candidate, check that it is right, then time all of them in turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from aerogel.bench.candidate import Candidate
from aerogel.bench.candidates import CANDIDATES
from aerogel.bench.inputs import check_length, vocabulary
from aerogel.bench.machine import cores, load_average
from aerogel.bench.model import OnnxFile, scan
from aerogel.bench.process import Worker
from aerogel.bench.result import STOCK, TOLERANCE, Report, Run, Settings, Skipped
from aerogel.bench.statistics import speedup, summarise
from aerogel.errors import UsageError
from aerogel.kernels.cpu.native import check_selection
from aerogel.registry import Registry

__all__ = ["alternate", "bench", "difference"]

# A round of the slowest candidate lasts about this long where --repeats is not given.
_ROUND_SECONDS = 0.5
_TUNING_ROUNDS = 3
# A thread that had less of its core than this was waiting for other processes.
_BUSY_SHARE = 0.95

Progress = Callable[[str, int, int], None]


class Runs(Protocol):
    """Anything that can be timed: a `Worker`, or a stand-in for one."""

    def run(self, iterations: int) -> tuple[list[float], float]:
        """See `Worker.run`."""


@dataclass
class _Entry:
    model: OnnxFile
    candidate: str
    setting: str = ""
    tried: dict[str, float] = field(default_factory=dict)


def bench(
    models: Sequence[Path],
    settings: Settings,
    baseline: Path | None = None,
    *,
    candidates: Registry[Candidate] = CANDIDATES,
    progress: Progress | None = None,
) -> Report:
    """Measure every candidate on every model.

    Args:
        models: .onnx files.
        settings: see `Settings`.
        baseline: the file whose run on stock ONNX Runtime is the baseline; by default the first that calls no
            sparse function, or else the first.
        candidates: registry of candidates.
        progress: called with the name of a stage, the steps done and the steps in all.

    Raises:
        UsageError: settings out of range, inputs that cannot be filled, an unknown AEROGEL_ISA.
        RuntimeLoadError: a file that cannot be loaded.
    """
    files = _files([baseline, *models] if baseline else models)
    for file in files:
        check_length(file.path, settings.seq)
    check_selection()
    reference = _reference(files, baseline)
    entries, skipped = _plan(files, candidates)
    before = load_average()
    with ExitStack() as stack:
        workers = []
        for done, entry in enumerate(entries):
            if progress:
                progress("opening", done, len(entries))
            workers.append(stack.enter_context(_open_fastest(entry, settings, candidates)))
        differences = _compare(entries, workers)
        repeats = settings.repeats or _repeats(workers)
        timed = alternate(workers, settings.rounds, repeats, progress)
        memories = [worker.memory() for worker in workers]
    latencies = [summarise([seconds for seconds, _ in rounds]) for rounds in timed]
    at = next(i for i, e in enumerate(entries) if e.model is reference and e.candidate == STOCK)
    runs = []
    for entry, worker, latency, memory, apart, rounds in zip(
        entries, workers, latencies, memories, differences, timed, strict=True
    ):
        right = apart is None or apart <= TOLERANCE
        runs.append(
            Run(
                model=entry.model.path,
                candidate=entry.candidate,
                setting=entry.setting,
                tried=entry.tried,
                size=entry.model.size,
                open_seconds=worker.open_seconds,
                memory=memory,
                share=float(np.median([share for _, share in rounds])),
                difference=apart,
                latency=latency,
                speedup=speedup(latencies[at], latency) if right else None,
            )
        )
    return Report(settings, repeats, runs, runs[at], skipped, _warnings(settings, before, runs))


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


def difference(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Largest max |y - e| / max |e| of all outputs; infinite where shapes differ or values of `outputs` are not finite.

    NaN where values of `expected` are not finite, which nothing can be compared with.
    """
    if not all(np.isfinite(e).all() for e in expected):
        return math.nan
    if [y.shape for y in outputs] != [e.shape for e in expected]:
        return math.inf
    worst = 0.0
    for y, e in zip(outputs, expected, strict=True):
        if not np.isfinite(y).all():
            return math.inf
        distance = float(np.max(np.abs(y.astype(np.float64) - e), initial=0.0))
        scale = float(np.max(np.abs(e), initial=0.0))
        if distance:
            worst = max(worst, distance / scale if scale else math.inf)
    return worst


def _files(paths: Sequence[Path]) -> list[OnnxFile]:
    """Scan each file once, however often it is named."""
    if not paths:
        raise UsageError("no model is given; name at least one .onnx file")
    return [scan(path) for path in {path.resolve(): path for path in reversed(paths)}.values()][::-1]


def _reference(files: Sequence[OnnxFile], baseline: Path | None) -> OnnxFile:
    if baseline:
        return next(file for file in files if file.path.resolve() == baseline.resolve())
    return next((file for file in files if not file.sparse), files[0])


def _plan(files: Sequence[OnnxFile], candidates: Registry[Candidate]) -> tuple[list[_Entry], list[Skipped]]:
    """What to measure, stock first on each model, and what not."""
    entries, skipped = [], []
    for file in files:
        for name in sorted(candidates.names(), key=lambda name: name != STOCK):
            reason = candidates.get(name).refuse(file)
            if reason is None:
                entries.append(_Entry(file, name))
            else:
                skipped.append(Skipped(file.path, name, reason))
    return entries, skipped


def _open_fastest(entry: _Entry, settings: Settings, candidates: Registry[Candidate]) -> Worker:
    """Open a worker per setting of the candidate, time them in turns, keep the fastest and end the others."""
    with ExitStack() as stack:
        workers = {
            setting: stack.enter_context(
                Worker(
                    candidates.module(entry.candidate),
                    entry.model.path,
                    threads=settings.threads,
                    setting=setting,
                    batch=settings.batch,
                    seq=settings.seq,
                    vocab=vocabulary(entry.model.path),
                    seed=settings.seed,
                )
            )
            for setting in candidates.get(entry.candidate).settings
        }
        if len(workers) > 1:
            timed = alternate(list(workers.values()), _TUNING_ROUNDS, _repeats(workers.values()))
            for setting, rounds in zip(workers, timed, strict=True):
                entry.tried[setting] = summarise([seconds for seconds, _ in rounds]).median
        entry.setting = min(workers, key=lambda setting: entry.tried.get(setting, 0.0))
        winner = workers.pop(entry.setting)
        # All went well: from here on only the losers end.
        stack.pop_all()
    for worker in workers.values():
        worker.close()
    return winner


def _compare(entries: Sequence[_Entry], workers: Sequence[Worker]) -> list[float | None]:
    """Difference of each candidate's outputs from stock ONNX Runtime's on the same file."""
    expected: dict[Path, list[np.ndarray]] = {}
    differences: list[float | None] = []
    for entry, worker in zip(entries, workers, strict=True):
        outputs = worker.outputs()
        if entry.candidate == STOCK:
            expected[entry.model.path] = outputs
            differences.append(None)
        else:
            differences.append(difference(outputs, expected[entry.model.path]))
    return differences


def _repeats(workers: Iterable[Runs]) -> int:
    """Inferences that take the slowest worker about `_ROUND_SECONDS`, between 3 and 200."""
    slowest = max(min(worker.run(2)[0]) for worker in workers)
    return min(max(math.ceil(_ROUND_SECONDS / slowest), 3), 200)


def _warnings(settings: Settings, load: float | None, runs: Sequence[Run]) -> list[str]:
    """What a reader should know before believing the numbers."""
    found = []
    if settings.threads > cores():
        found.append(f"{settings.threads} threads share {cores()} cores; timings will vary")
    elif load is not None and load + settings.threads > cores() + 0.5:
        found.append(
            f"load average was {load:.1f} on {cores()} cores before the start: other processes were busy; "
            "timings may be slow and spread"
        )
    for run in runs:
        if settings.threads == 1 and run.share < _BUSY_SHARE:
            found.append(
                f"{run.model.name} on {run.candidate} had only {run.share:.0%} of its core: "
                "other processes ran in between; measure again on an idle machine"
            )
        if run.difference is not None and math.isnan(run.difference):
            found.append(
                f"{run.model.name}: the model's own outputs are not finite, so those of {run.candidate} cannot be "
                "compared; no speed-up is reported. Train or export it anew"
            )
        elif not run.correct:
            found.append(
                f"{run.model.name} on {run.candidate} gives other outputs than on {STOCK}: relative "
                f"difference {run.difference:.1e}, where rounding makes at most {TOLERANCE:.0e}; "
                "no speed-up is reported"
            )
    return found
