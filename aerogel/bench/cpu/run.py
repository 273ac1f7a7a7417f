"""Measuring the points, each kept as soon as it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from aerogel.bench import schema
from aerogel.bench.backends import BACKENDS
from aerogel.bench.cpu.models import Export, make
from aerogel.bench.cpu.plan import Point
from aerogel.bench.harness import measure
from aerogel.bench.jobs import Job
from aerogel.bench.model import scan
from aerogel.bench.result import Skipped
from aerogel.bench.setup import Progress
from aerogel.errors import DataError, RuntimeLoadError
from aerogel.system.atomic_io import atomic_file

__all__ = ["kept", "run_point"]


def run_point(
    point: Point,
    out: Path,
    rivals: Collection[str],
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make the models of a point and measure it, or take up what an earlier run has measured of the same.

    Args:
        point: what to measure.
        out: folder of models and results.
        rivals: other runtimes that may be measured.
        say: called with each command line before it runs.
        progress: see `measure`.

    Returns:
        The point's document.

    Raises:
        RuntimeLoadError: the dense model cannot be made.
    """
    failed = make(point.exports, out / "models", say)
    pairs, skipped = _pairs(point, out / "models", rivals, failed)
    if not pairs or pairs[0].candidate != point.rows[0].candidate:
        first = point.rows[0].export
        raise RuntimeLoadError(f"the baseline cannot be made: {failed.get(first, 'it was not exported')}")
    interpreters = sorted({f"{pair.candidate} {BACKENDS.get(pair.candidate).python()}" for pair in pairs})
    mark = schema.identity(
        [file for pair in pairs for file in (pair.model.path, pair.reference.path)],
        point.settings,
        interpreters,
    )
    earlier = kept(point, out)
    if earlier and earlier["identity"] == mark:
        return earlier
    report = measure(pairs, point.settings, pairs[0], skipped, work=out / "converted", progress=progress)
    found = schema.point(report, mark)
    with atomic_file(_file(point, out)) as file:
        text = json.dumps(schema.document([found]), indent=2, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8")
    return found


def kept(point: Point, out: Path) -> dict[str, Any] | None:
    """What an earlier run with the same library has left of a point; None where that is nothing, or damaged."""
    try:
        found = schema.load(_file(point, out))
    except DataError:
        return None
    return found[0] if found and found[0]["library"] == schema.library() else None


def _file(point: Point, out: Path) -> Path:
    return out / "points" / f"{point.name}.json"


def _pairs(
    point: Point, models: Path, rivals: Collection[str], failed: dict[Export, str]
) -> tuple[list[Job], list[Skipped]]:
    """The rows that can be measured here, and why the others cannot."""
    pairs: list[Job] = []
    skipped: list[Skipped] = []
    for row in point.rows:
        candidate = BACKENDS.get(row.candidate)
        path = row.export.path(models)
        if candidate.rival and row.candidate not in rivals:
            continue
        missing: Sequence[Export] = [item for item in (row.export, row.reference) if item in failed]
        if missing:
            skipped.append(Skipped(path, row.candidate, failed[missing[0]]))
            continue
        model = scan(path)
        reason = candidate.refuse(model)
        if reason is None:
            label = row.export.checkpoint.label
            pairs.append(Job(model, row.candidate, label, scan(row.reference.path(models))))
        else:
            skipped.append(Skipped(path, row.candidate, reason))
    return pairs, skipped
