"""Run a benchmark: load every job, compare its outputs with the reference, then time all jobs in rounds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aerogel.bench.backend import Backend
from aerogel.bench.backends import BACKENDS
from aerogel.bench.compare import relative_error, without_padding
from aerogel.bench.inputs import check_length
from aerogel.bench.jobs import Job, plan, scan_all
from aerogel.bench.model import OnnxFile
from aerogel.bench.result import STOCK, Report, Run, Settings, Skipped
from aerogel.bench.setup import Opened, Progress, alternate, iterations_per_round, open_fastest, stock_outputs
from aerogel.bench.statistics import speedup, summarise
from aerogel.errors import AerogelError
from aerogel.kernels.cpu.native import check_selection
from aerogel.registry import Registry
from aerogel.system.cores import cores
from aerogel.system.machine import load_average

__all__ = ["bench", "measure"]

# Below this CPU utilization, a single thread was waiting for other processes.
_MIN_UTILIZATION = 0.95


def bench(
    models: Sequence[Path],
    settings: Settings,
    baseline: Path | None = None,
    *,
    third_party: Collection[str] = (),
    registry: Registry[Backend] = BACKENDS,
    work: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure every model on every backend.

    Args:
        models: .onnx files.
        settings: see `Settings`.
        baseline: file whose run on stock ONNX Runtime is the baseline. None means the first model without sparse
            functions, or the first model if all have some.
        third_party: names of third-party backends to measure too.
        registry: all backends.
        work: see `measure`.
        progress: called with the name of a stage, the steps done and the total number of steps.

    Raises:
        UsageError: settings are out of range, inputs cannot be filled, or a backend or AEROGEL_ISA is unknown.
        RuntimeLoadError: a file cannot be loaded.
    """
    files = scan_all([baseline, *models] if baseline else models)
    dense = _baseline(files, baseline)
    jobs, skipped = plan(files, registry, third_party)
    first = next(job for job in jobs if job.model is dense and job.backend == STOCK)
    return measure(jobs, settings, first, skipped, registry=registry, work=work, progress=progress)


def measure(
    jobs: Sequence[Job],
    settings: Settings,
    baseline: Job,
    skipped: Sequence[Skipped] = (),
    *,
    registry: Registry[Backend] = BACKENDS,
    work: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure `jobs`. All of them stay loaded, and they take turns in every round.

    If a third-party backend fails to convert, load or run a model, its row is skipped and the reason is reported. A
    failure of Aerogel or stock ONNX Runtime raises.

    Args:
        jobs: what to measure, in the order of the table.
        settings: see `Settings`.
        baseline: the job of `jobs` with speed-up 1; not on a third-party backend.
        skipped: rows that are already known to be skipped.
        registry: all backends.
        work: folder in which converted models are kept for reuse. None means a temporary folder.
        progress: called with the name of a stage, the steps done and the total number of steps.

    Raises:
        UsageError: inputs cannot be filled, or AEROGEL_ISA is unknown.
        RuntimeLoadError: a file cannot be loaded.
    """
    for job in jobs:
        check_length(job.model.path, settings.seq)
    check_selection()
    load = load_average()
    all_skipped = list(skipped)
    with ExitStack() as stack:
        work = work or Path(stack.enter_context(TemporaryDirectory()))
        opened: list[Opened] = []
        for done, job in enumerate(jobs):
            if progress:
                progress("setup", done, len(jobs))
            try:
                opened.append(open_fastest(job, settings, registry, work))
            except AerogelError as failure:
                if not registry.get(job.backend).third_party:
                    raise
                all_skipped.append(Skipped(job.model.path, job.backend, str(failure)))
            else:
                stack.enter_context(opened[-1].worker)
        errors = _compare(opened, settings, registry)
        workers = [entry.worker for entry in opened]
        iterations = settings.repeats or iterations_per_round(workers)
        timed = alternate(workers, settings.rounds, iterations, progress)
        memories = [worker.memory() for worker in workers]
    latencies = [summarise([seconds for seconds, _ in rounds]) for rounds in timed]
    baseline_index = next(i for i, entry in enumerate(opened) if entry.job is baseline)
    runs = []
    for entry, latency, memory, error, rounds in zip(opened, latencies, memories, errors, timed, strict=True):
        job = entry.job
        precision = registry.get(job.backend).precision(job.model)
        correct = error is None or error <= precision.tolerance
        runs.append(
            Run(
                model=job.model.path,
                label=job.label,
                backend=job.backend,
                precision=precision,
                variant=entry.variant,
                variant_ms=entry.variant_ms,
                details=entry.worker.details,
                size=entry.file.size,
                load_seconds=entry.worker.load_seconds,
                memory=memory,
                cpu_utilization=float(np.median([utilization for _, utilization in rounds])),
                reference=job.reference.path,
                relative_error=error,
                latency=latency,
                speedup=speedup(latencies[baseline_index], latency) if correct else None,
            )
        )
    return Report(
        settings, iterations, runs, runs[baseline_index], all_skipped, _warnings(settings, load, runs)
    )


def _baseline(files: Sequence[OnnxFile], baseline: Path | None) -> OnnxFile:
    if baseline:
        return next(file for file in files if file.path.resolve() == baseline.resolve())
    return next((file for file in files if not file.sparse), files[0])


def _compare(opened: Sequence[Opened], settings: Settings, registry: Registry[Backend]) -> list[float | None]:
    """Relative error of each job against stock ONNX Runtime on its reference; None for a reference's own row."""
    expected = {
        entry.job.model.path: entry.worker.outputs() for entry in opened if entry.job.backend == STOCK
    }
    errors: list[float | None] = []
    for entry in opened:
        reference = entry.job.reference
        if entry.job.backend == STOCK and entry.job.model.path == reference.path:
            errors.append(None)
            continue
        if reference.path not in expected:
            expected[reference.path] = stock_outputs(reference, settings, registry)
        outputs = without_padding(entry.worker.outputs(), settings.lengths)
        errors.append(relative_error(outputs, without_padding(expected[reference.path], settings.lengths)))
    return errors


def _warnings(settings: Settings, load: float | None, runs: Sequence[Run]) -> list[str]:
    """Warnings about a busy machine and about wrong outputs."""
    found = []
    if settings.threads > cores():
        found.append(f"{settings.threads} threads share {cores()} cores; timings will vary")
    elif load is not None and load + settings.threads > cores() + 0.5:
        found.append(
            f"load average was {load:.1f} on {cores()} cores before the start: other processes were busy; "
            "timings may be slow and vary"
        )
    disturbed = [run for run in runs if settings.threads == 1 and run.cpu_utilization < _MIN_UTILIZATION]
    if disturbed:
        worst = min(disturbed, key=lambda run: run.cpu_utilization)
        others = (
            f", and {len(disturbed) - 1} more less than {_MIN_UTILIZATION:.0%}" if len(disturbed) > 1 else ""
        )
        found.append(
            f"{worst.label} on {worst.backend} had only {worst.cpu_utilization:.0%} of its core{others}: "
            "other processes ran at the same time; measure again on an idle machine"
        )
    for run in runs:
        if run.relative_error is not None and math.isnan(run.relative_error):
            found.append(
                f"{run.reference.name}: the outputs contain NaN or infinity, so {run.label} on {run.backend} cannot "
                "be compared and has no speed-up; train or export the model again"
            )
        elif not run.correct:
            found.append(
                f"{run.label} on {run.backend} differs from {run.reference.name} on {STOCK}: relative error "
                f"{run.relative_error:.1e}, at most {run.precision.tolerance:.0e} allowed in {run.precision.dtype}; "
                "no speed-up is reported"
            )
    return found
