"""Write results to a JSON document, and read them back."""

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

__all__ = ["SCHEMA", "document", "encode", "identity", "library", "load", "parse"]

SCHEMA = 3
"""Version of the document; docs/bench.md describes it."""

_RUN = {
    "model": str, "label": str, "backend": str, "precision": str, "variant": str, "variant_ms": Each(float),
    "details": str, "file_bytes": int, "load_seconds": float, "memory_bytes": Each(int), "cpu_utilization": float,
    "reference": str, "relative_error": Either(float, None), "correct": bool,
    "latency_ms": {"median": float, "p90": float, "p99": float, "spread": float, "round_medians": [float]},
    "speedup": Either({"median": float, "low": float, "high": float}, None),
}  # fmt: skip
_CONFIGURATION = {
    "settings": {
        "threads": int, "batch": int, "seq": int, "rounds": int, "iterations": int, "seed": int, "lengths": [int],
    },
    "baseline": Number(int, 0), "runs": [_RUN],
    "skipped": [{"model": str, "backend": str, "reason": str}], "warnings": [str],
}  # fmt: skip


def document(configurations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the JSON document of several configurations, each of which `encode` returned."""
    return {"schema": SCHEMA, "configurations": list(configurations)}


def encode(report: Report, identity: str = "") -> dict[str, Any]:
    """Return the results of one configuration, with machine and versions, as JSON values."""
    settings = asdict(report.settings) | {"lengths": list(report.settings.lengths)}
    del settings["repeats"]
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "identity": identity,
        "machine": describe(),
        "versions": {"aerogel": __version__, **versions(("numpy", "onnxruntime"))},
        "library": library(),
        "settings": {**settings, "iterations": report.iterations},
        "baseline": report.runs.index(report.baseline),
        "runs": [_encode_run(run) for run in report.runs],
        "skipped": [{**asdict(item), "model": str(item.model)} for item in report.skipped],
        "warnings": report.warnings,
    }


def parse(found: Mapping[str, Any]) -> Report:
    """Parse what `encode` returned. The report's settings have the number of iterations that were run.

    Raises:
        DataError: a field is missing, unknown or out of range.
    """
    try:
        check(found, _CONFIGURATION)
        settings = {**found["settings"], "lengths": tuple(found["settings"]["lengths"])}
        iterations = settings["repeats"] = settings.pop("iterations")
        runs = [_parse_run(run) for run in found["runs"]]
        skipped = [Skipped(**{**item, "model": Path(item["model"])}) for item in found["skipped"]]
        return Report(
            Settings(**settings), iterations, runs, runs[found["baseline"]], skipped, found["warnings"]
        )
    except (TypeError, ValueError, IndexError) as error:  # unknown fields, and numbers out of range
        raise DataError(f"not results of this version ({error}); measure again") from error


def load(path: Path) -> list[dict[str, Any]]:
    """Read and check the configurations of a file; return an empty list if there is no such file.

    Raises:
        DataError: the file is not a document of this schema.
    """
    if not path.exists():
        return []
    try:
        found = read(path, {"schema": int})
        if found["schema"] != SCHEMA:
            raise MalformedJsonError(f"schema {found['schema']}, not {SCHEMA}")
        if text := unprintable(found):
            raise MalformedJsonError(f"{text[:80]} cannot be printed")
        configurations: list[dict[str, Any]] = check(found, {"configurations": [dict]})["configurations"]
        for item in configurations:
            parse(item)
    except (OSError, MalformedJsonError, DataError) as error:
        raise DataError(f"{path} has no measurements that can be resumed ({error}); remove it") from error
    return configurations


def identity(models: Sequence[Path], settings: Settings, others: Sequence[str] = ()) -> str:
    """Return a hash of everything that can change the result of a configuration.

    Args:
        models: files that are read; their sizes and times stand for their contents.
        settings: the configuration.
        others: more text to include, such as names of backends and interpreters.
    """
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in models]
    known = [
        files, asdict(settings), list(others), describe(), library(), __version__,
        versions(("numpy", "onnxruntime")),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def library() -> str | None:
    """Return the SHA-256 of the native library in use; None if there is no library."""
    path = find_library()
    return sha256(path) if path and path.is_file() else None


def _encode_run(run: Run) -> dict[str, Any]:
    # JSON has neither infinity nor NaN, which mark outputs that cannot be compared.
    error = (
        run.relative_error if run.relative_error is not None and math.isfinite(run.relative_error) else None
    )
    return {
        "model": str(run.model),
        "label": run.label,
        "backend": run.backend,
        "precision": str(run.precision),
        "variant": run.variant,
        "variant_ms": run.variant_ms,
        "details": run.details,
        "file_bytes": run.size,
        "load_seconds": run.load_seconds,
        "memory_bytes": run.memory,
        "cpu_utilization": run.cpu_utilization,
        "reference": str(run.reference),
        "relative_error": error,
        "tolerance": run.precision.tolerance,
        "correct": run.correct,
        "latency_ms": asdict(run.latency),
        "speedup": asdict(run.speedup) if run.speedup else None,
    }


def _parse_run(found: Mapping[str, Any]) -> Run:
    error = found["relative_error"]
    return Run(
        model=Path(found["model"]),
        label=found["label"],
        backend=found["backend"],
        precision=Precision.parse(found["precision"]),
        variant=found["variant"],
        variant_ms=found["variant_ms"],
        details=found["details"],
        size=found["file_bytes"],
        load_seconds=found["load_seconds"],
        memory=found["memory_bytes"],
        cpu_utilization=found["cpu_utilization"],
        reference=Path(found["reference"]),
        relative_error=math.inf if error is None and not found["correct"] else error,
        latency=Latency(**found["latency_ms"]),
        speedup=Speedup(**found["speedup"]) if found["speedup"] else None,
    )
