"""The measurement: open every candidate, check that it is right, then time all of them in turns."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aerogel.bench.backend import Backend
from aerogel.bench.backends import BACKENDS
from aerogel.bench.compare import difference, without_padding
from aerogel.bench.inputs import check_length
from aerogel.bench.jobs import Job, plan, scan_all
from aerogel.bench.model import OnnxFile
from aerogel.bench.result import STOCK, Report, Run, Settings, Skipped
from aerogel.bench.setup import Opened, Progress, alternate, fill_round, open_fastest, stock_outputs
from aerogel.bench.statistics import speedup, summarise
from aerogel.errors import AerogelError
from aerogel.kernels.cpu.native import check_selection
from aerogel.registry import Registry
from aerogel.system.cores import cores
from aerogel.system.machine import load_average

__all__ = ["bench", "measure"]

# A thread that had less of its core than this was waiting for other processes.
_BUSY_SHARE = 0.95


def bench(
    models: Sequence[Path],
    settings: Settings,
    baseline: Path | None = None,
    *,
    rivals: Collection[str] = (),
    candidates: Registry[Backend] = BACKENDS,
    work: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure every candidate on every model.

    Args:
        models: .onnx files.
        settings: see `Settings`.
        baseline: the file whose run on stock ONNX Runtime is the baseline; by default the first that calls no
            sparse function, or else the first.
        rivals: names of the rivals to measure too.
        candidates: registry of candidates.
        work: see `measure`.
        progress: called with the name of a stage, the steps done and the steps in all.

    Raises:
        UsageError: settings out of range, inputs that cannot be filled, an unknown rival or AEROGEL_ISA.
        RuntimeLoadError: a file that cannot be loaded.
    """
    files = scan_all([baseline, *models] if baseline else models)
    reference = _baseline(files, baseline)
    pairs, skipped = plan(files, candidates, rivals)
    at = next(pair for pair in pairs if pair.model is reference and pair.candidate == STOCK)
    return measure(pairs, settings, at, skipped, candidates=candidates, work=work, progress=progress)


def measure(
    pairs: Sequence[Job],
    settings: Settings,
    baseline: Job,
    skipped: Sequence[Skipped] = (),
    *,
    candidates: Registry[Backend] = BACKENDS,
    work: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure `pairs`, all open at once and in turns.

    A rival that cannot convert, load or run a model is skipped with its reason; anything else that cannot is an error.

    Args:
        pairs: what to measure, in the table's order.
        settings: see `Settings`.
        baseline: the one of `pairs` that has speed-up 1; no rival's.
        skipped: what is known already to have nothing to measure.
        candidates: registry of candidates.
        work: folder for the files that rivals convert models to, to be found again; None: they are deleted.
        progress: called with the name of a stage, the steps done and the steps in all.

    Raises:
        UsageError: inputs that cannot be filled, an unknown AEROGEL_ISA.
        RuntimeLoadError: a file that cannot be loaded.
    """
    for pair in pairs:
        check_length(pair.model.path, settings.seq)
    check_selection()
    before = load_average()
    left_out = list(skipped)
    with ExitStack() as stack:
        work = work or Path(stack.enter_context(TemporaryDirectory()))
        opened: list[Opened] = []
        for done, pair in enumerate(pairs):
            if progress:
                progress("opening", done, len(pairs))
            try:
                opened.append(open_fastest(pair, settings, candidates, work))
            except AerogelError as error:
                if not candidates.get(pair.candidate).rival:
                    raise
                left_out.append(Skipped(pair.model.path, pair.candidate, str(error)))
            else:
                stack.enter_context(opened[-1].worker)
        differences = _compare(opened, settings, candidates)
        workers = [entry.worker for entry in opened]
        repeats = settings.repeats or fill_round(workers)
        timed = alternate(workers, settings.rounds, repeats, progress)
        memories = [worker.memory() for worker in workers]
    latencies = [summarise([seconds for seconds, _ in rounds]) for rounds in timed]
    at = next(i for i, entry in enumerate(opened) if entry.pair is baseline)
    runs = []
    for entry, latency, memory, apart, rounds in zip(
        opened, latencies, memories, differences, timed, strict=True
    ):
        pair = entry.pair
        kind = candidates.get(pair.candidate).kind(pair.model)
        right = apart is None or apart <= kind.tolerance
        runs.append(
            Run(
                model=pair.model.path,
                label=pair.label,
                candidate=pair.candidate,
                kind=kind,
                setting=entry.setting,
                tried=entry.tried,
                details=entry.worker.details,
                size=entry.file.size,
                open_seconds=entry.worker.open_seconds,
                memory=memory,
                share=float(np.median([share for _, share in rounds])),
                reference=pair.reference.path,
                difference=apart,
                latency=latency,
                speedup=speedup(latencies[at], latency) if right else None,
            )
        )
    return Report(settings, repeats, runs, runs[at], left_out, _warnings(settings, before, runs))


def _baseline(files: Sequence[OnnxFile], baseline: Path | None) -> OnnxFile:
    if baseline:
        return next(file for file in files if file.path.resolve() == baseline.resolve())
    return next((file for file in files if not file.sparse), files[0])


def _compare(
    opened: Sequence[Opened], settings: Settings, candidates: Registry[Backend]
) -> list[float | None]:
    """Difference of each candidate's outputs from stock ONNX Runtime's on its reference."""
    expected = {
        entry.pair.model.path: entry.worker.outputs() for entry in opened if entry.pair.candidate == STOCK
    }
    differences: list[float | None] = []
    for entry in opened:
        reference = entry.pair.reference
        if entry.pair.candidate == STOCK and entry.pair.model.path == reference.path:
            differences.append(None)
            continue
        if reference.path not in expected:
            expected[reference.path] = stock_outputs(reference, settings, candidates)
        right, outputs = expected[reference.path], entry.worker.outputs()
        differences.append(
            difference(without_padding(outputs, settings.lengths), without_padding(right, settings.lengths))
        )
    return differences


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
    disturbed = [run for run in runs if settings.threads == 1 and run.share < _BUSY_SHARE]
    if disturbed:
        worst = min(disturbed, key=lambda run: run.share)
        others = f" and {len(disturbed) - 1} more less than {_BUSY_SHARE:.0%}" if len(disturbed) > 1 else ""
        found.append(
            f"{worst.label} on {worst.candidate} had only {worst.share:.0%} of its core{others}: "
            "other processes ran in between; measure again on an idle machine"
        )
    for run in runs:
        if run.difference is not None and math.isnan(run.difference):
            found.append(
                f"{run.reference.name}: the model's own outputs are not finite, so those of {run.label} on "
                f"{run.candidate} cannot be compared; no speed-up is reported. Train or export it anew"
            )
        elif not run.correct:
            found.append(
                f"{run.label} on {run.candidate} gives other outputs than {run.reference.name} on {STOCK}: relative "
                f"difference {run.difference:.1e}, where {run.kind.precision} makes at most "
                f"{run.kind.tolerance:.0e}; no speed-up is reported"
            )
    return found
