"""Measure configurations, and save the results of each at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from aerogel.bench import schema
from aerogel.bench.backends import BACKENDS
from aerogel.bench.cpu.models import Export, make
from aerogel.bench.cpu.plan import Configuration
from aerogel.bench.harness import measure
from aerogel.bench.jobs import Job
from aerogel.bench.model import scan
from aerogel.bench.result import Skipped
from aerogel.bench.setup import Progress
from aerogel.errors import DataError, RuntimeLoadError
from aerogel.system.atomic_io import atomic_file

__all__ = ["load_saved", "run_configuration"]


def run_configuration(
    configuration: Configuration,
    out: Path,
    third_party: Collection[str],
    report: Callable[[str], None],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make the models of a configuration and measure it, or return the saved results of the same.

    Args:
        configuration: what to measure.
        out: folder of models and results.
        third_party: names of third-party backends to include.
        report: called with each command line before it runs.
        progress: see `measure`.

    Returns:
        What `schema.encode` returns.

    Raises:
        RuntimeLoadError: the dense model cannot be made.
    """
    failed = make(configuration.exports, out / "models", report)
    jobs, skipped = _jobs(configuration, out / "models", third_party, failed)
    if not jobs or jobs[0].backend != configuration.rows[0].backend:
        first = configuration.rows[0].export
        raise RuntimeLoadError(f"cannot make the baseline: {failed.get(first, 'it was not exported')}")
    interpreters = sorted({f"{job.backend} {BACKENDS.get(job.backend).python()}" for job in jobs})
    identity = schema.identity(
        [file for job in jobs for file in (job.model.path, job.reference.path)],
        configuration.settings,
        interpreters,
    )
    saved = load_saved(configuration, out)
    if saved and saved["identity"] == identity:
        return saved
    measured = measure(
        jobs, configuration.settings, jobs[0], skipped, work=out / "converted", progress=progress
    )
    found = schema.encode(measured, identity)
    with atomic_file(_file(configuration, out)) as file:
        text = json.dumps(schema.document([found]), indent=2, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8")
    return found


def load_saved(configuration: Configuration, out: Path) -> dict[str, Any] | None:
    """Return the saved results of a configuration; None if they are missing, damaged or of another library."""
    try:
        found = schema.load(_file(configuration, out))
    except DataError:
        return None
    return found[0] if found and found[0]["library"] == schema.library() else None


def _file(configuration: Configuration, out: Path) -> Path:
    return out / "configurations" / f"{configuration.name}.json"


def _jobs(
    configuration: Configuration, models: Path, third_party: Collection[str], failed: dict[Export, str]
) -> tuple[list[Job], list[Skipped]]:
    """The rows that can be measured on this machine, and the others with the reason."""
    jobs: list[Job] = []
    skipped: list[Skipped] = []
    for row in configuration.rows:
        backend = BACKENDS.get(row.backend)
        path = row.export.path(models)
        if backend.third_party and row.backend not in third_party:
            continue
        missing: Sequence[Export] = [item for item in (row.export, row.reference) if item in failed]
        if missing:
            skipped.append(Skipped(path, row.backend, failed[missing[0]]))
            continue
        model = scan(path)
        reason = backend.refuse(model)
        if reason is None:
            label = row.export.checkpoint.label
            jobs.append(Job(model, row.backend, label, scan(row.reference.path(models))))
        else:
            skipped.append(Skipped(path, row.backend, reason))
    return jobs, skipped
