"""A measurement as a JSON document, as a table on the terminal, and as Markdown."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel import __version__
from aerogel.bench.machine import describe
from aerogel.bench.result import Report, Run
from aerogel.versions import versions

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["SCHEMA", "document", "labels", "markdown", "table"]

SCHEMA = 1
"""Version of `document`'s layout; docs/bench.md describes it."""

_HEADER = (
    "model", "runtime", "median ms", "p90 ms", "p99 ms", "spread", "speed-up", "open s",
    "resident MB", "peak MB", "file MB",
)  # fmt: skip


def document(report: Report) -> dict[str, Any]:
    """Everything that was measured, and where, for a file."""
    return {
        "schema": SCHEMA,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe(),
        "versions": {"aerogel": __version__, **versions(("numpy", "onnxruntime"))},
        "settings": {**asdict(report.settings), "repeats": report.repeats},
        "baseline": {"model": str(report.baseline.model), "candidate": report.baseline.candidate},
        "runs": [_run(run) for run in report.runs],
        "skipped": [{**asdict(item), "model": str(item.model)} for item in report.skipped],
        "warnings": report.warnings,
    }


def labels(report: Report) -> dict[Path, str]:
    """A short name for each model: its file's name, after as many folders as tell the files apart."""
    paths = {run.model for run in report.runs}
    length = 1
    while len({path.resolve().parts[-length:] for path in paths}) < len(paths):
        length += 1
    return {path: "/".join(path.resolve().parts[-length:]) for path in paths}


def table(report: Report) -> Table:
    """The measurement for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=_title(report),
        caption=_caption(report),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    for number, name in enumerate(_HEADER):
        if number < 2:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in _rows(report):
        table.add_row(*(cell.replace(" (", "\n(") for cell in row))
    return table


def markdown(report: Report) -> str:
    """The measurement as a Markdown table with its title and caption."""
    lines = [_HEADER, ["---", "---", *["---:"] * (len(_HEADER) - 2)], *_rows(report)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    warnings = "".join(f"\nWarning: {warning}\n" for warning in report.warnings)
    return f"{_title(report)}\n\n{body}\n\n{_caption(report)}\n{warnings}"


def _run(run: Run) -> dict[str, Any]:
    # JSON has no infinity, which is what outputs of another shape or without a value are apart.
    apart = run.difference if run.difference is not None and math.isfinite(run.difference) else None
    return {
        "model": str(run.model),
        "candidate": run.candidate,
        "setting": run.setting,
        "settings_tried_ms": run.tried,
        "file_bytes": run.size,
        "open_seconds": run.open_seconds,
        "memory_bytes": run.memory,
        "cpu_share": run.share,
        "relative_difference": apart,
        "correct": run.correct,
        "latency_ms": asdict(run.latency),
        "speedup": asdict(run.speedup) if run.speedup else None,
    }


def _rows(report: Report) -> list[list[str]]:
    names = labels(report)
    rows = []
    for run in report.runs:
        if run is report.baseline:
            gain = "baseline"
        elif run.speedup:
            gain = f"{run.speedup.median:.2f} ({run.speedup.low:.2f}-{run.speedup.high:.2f})"
        else:
            gain = "wrong output"
        latency = run.latency
        rows.append([
            names[run.model], run.candidate, f"{latency.median:.2f}", f"{latency.p90:.2f}",
            f"{latency.p99:.2f}", f"{latency.spread:.1%}", gain, f"{run.open_seconds:.2f}",
            _megabytes(run.memory["after_runs"]), _megabytes(run.memory["peak"]), _megabytes(run.size),
        ])  # fmt: skip
    return rows


def _title(report: Report) -> str:
    s = report.settings
    threads = "1 thread" if s.threads == 1 else f"{s.threads} threads"
    return f"batch {s.batch}, sequence {s.seq}, {threads}; {s.rounds} rounds of {report.repeats} inferences"


def _caption(report: Report) -> str:
    machine = describe()
    found = versions(("onnxruntime",))["onnxruntime"]
    best = report.baseline
    return (
        f"Baseline: {labels(report)[best.model]} on {best.candidate} ({best.setting}, its fastest setting). "
        f"{machine['cpu']}, {machine['cores']} cores, kernels: {machine['kernels'] or 'none'}; "
        f"ONNX Runtime {found}."
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.{0 if size >= 1e7 else 1}f}"
