"""Measurements as a JSON document, and back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from aerogel import __version__
from aerogel.bench.machine import describe
from aerogel.bench.precision import Precision
from aerogel.bench.result import Report, Run, Settings, Skipped
from aerogel.bench.statistics import Latency, Speedup
from aerogel.errors import DataError
from aerogel.kernels.cpu.library import find_library
from aerogel.system.atomic_io import sha256
from aerogel.system.json_fields import Each, Either, MalformedJsonError, Number, check, read
from aerogel.system.printable import unprintable
from aerogel.system.versions import versions

__all__ = ["SCHEMA", "document", "identity", "library", "load", "parse", "point"]

SCHEMA = 2
"""Version of the document's layout; docs/bench.md describes it."""

_RUN = {
    "model": str, "label": str, "candidate": str, "kind": str, "setting": str, "settings_tried_ms": Each(float),
    "details": str, "file_bytes": int, "open_seconds": float, "memory_bytes": Each(int), "cpu_share": float,
    "reference": str, "relative_difference": Either(float, None), "correct": bool,
    "latency_ms": {"median": float, "p90": float, "p99": float, "spread": float, "round_medians": [float]},
    "speedup": Either({"median": float, "low": float, "high": float}, None),
}  # fmt: skip
_POINT = {
    "settings": {
        "threads": int, "batch": int, "seq": int, "rounds": int, "repeats": int, "seed": int, "lengths": [int],
    },
    "baseline": Number(int, 0), "runs": [_RUN],
    "skipped": [{"model": str, "candidate": str, "reason": str}], "warnings": [str],
}  # fmt: skip


def document(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The document of several measurements, each of which `point` made."""
    return {"schema": SCHEMA, "points": list(points)}


def point(report: Report, identity: str = "") -> dict[str, Any]:
    """Everything that was measured at one point, and where, for a file."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "identity": identity,
        "machine": describe(),
        "versions": {"aerogel": __version__, **versions(("numpy", "onnxruntime"))},
        "library": library(),
        "settings": {**asdict(report.settings), "repeats": report.repeats},
        "baseline": report.runs.index(report.baseline),
        "runs": [_run(run) for run in report.runs],
        "skipped": [{**asdict(item), "model": str(item.model)} for item in report.skipped],
        "warnings": report.warnings,
    }


def parse(found: Mapping[str, Any]) -> Report:
    """The inverse of `point`.

    Raises:
        DataError: it is not what `point` gives.
    """
    try:
        check(found, _POINT)
        settings = {**found["settings"], "lengths": tuple(found["settings"]["lengths"])}
        runs = [_parse_run(run) for run in found["runs"]]
        skipped = [Skipped(**{**item, "model": Path(item["model"])}) for item in found["skipped"]]
        return Report(
            Settings(**settings),
            settings["repeats"],
            runs,
            runs[found["baseline"]],
            skipped,
            found["warnings"],
        )
    except (TypeError, ValueError, IndexError) as error:  # unknown fields, and numbers that cannot be meant
        raise DataError(f"no measurement of this version ({error}); measure again") from error


def load(path: Path) -> list[dict[str, Any]]:
    """The measurements in a file, checked to be such; none where there is no file.

    Raises:
        DataError: it is not a document of this schema.
    """
    if not path.exists():
        return []
    try:
        found = read(path, {"schema": int})
        if found["schema"] != SCHEMA:
            raise MalformedJsonError(f"schema {found['schema']}, not {SCHEMA}")
        if text := unprintable(found):
            raise MalformedJsonError(f"{text[:80]} cannot be printed")
        points: list[dict[str, Any]] = check(found, {"points": [dict]})["points"]
        for item in points:
            parse(item)
    except (OSError, MalformedJsonError, DataError) as error:
        raise DataError(f"{path} has no measurements that can be resumed ({error}); remove it") from error
    return points


def identity(models: Sequence[Path], settings: Settings, others: Sequence[str] = ()) -> str:
    """A name for what would be measured, which changes with anything that could change the outcome.

    Args:
        models: files that are read; their size and time stand for their content.
        settings: the point.
        others: further words, such as names of candidates and interpreters.
    """
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in models]
    known = [
        files, asdict(settings), list(others), describe(), library(), __version__,
        versions(("numpy", "onnxruntime")),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def library() -> str | None:
    """SHA-256 of the native library in use; None where there is none."""
    path = find_library()
    return sha256(path) if path and path.is_file() else None


def _run(run: Run) -> dict[str, Any]:
    # JSON has no infinity, which is what outputs of another shape or without a value are apart.
    apart = run.difference if run.difference is not None and math.isfinite(run.difference) else None
    return {
        "model": str(run.model),
        "label": run.label,
        "candidate": run.candidate,
        "kind": str(run.kind),
        "setting": run.setting,
        "settings_tried_ms": run.tried,
        "details": run.details,
        "file_bytes": run.size,
        "open_seconds": run.open_seconds,
        "memory_bytes": run.memory,
        "cpu_share": run.share,
        "reference": str(run.reference),
        "relative_difference": apart,
        "tolerance": run.kind.tolerance,
        "correct": run.correct,
        "latency_ms": asdict(run.latency),
        "speedup": asdict(run.speedup) if run.speedup else None,
    }


def _parse_run(found: Mapping[str, Any]) -> Run:
    apart = found["relative_difference"]
    return Run(
        model=Path(found["model"]),
        label=found["label"],
        candidate=found["candidate"],
        kind=Precision.parse(found["kind"]),
        setting=found["setting"],
        tried=found["settings_tried_ms"],
        details=found["details"],
        size=found["file_bytes"],
        open_seconds=found["open_seconds"],
        memory=found["memory_bytes"],
        share=found["cpu_share"],
        reference=Path(found["reference"]),
        difference=math.inf if apart is None and not found["correct"] else apart,
        latency=Latency(**found["latency_ms"]),
        speedup=Speedup(**found["speedup"]) if found["speedup"] else None,
    )
