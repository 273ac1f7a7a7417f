"""Print results as a table, on the terminal or in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.bench.machine import describe
from aerogel.bench.result import Report, Run, Settings
from aerogel.system.versions import versions

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["markdown", "notes", "table", "title"]

_HEADER = (
    "model", "backend", "precision", "median ms", "p90 ms", "p99 ms", "spread", "speed-up", "relative error",
    "load s", "RSS MB", "peak MB", "file MB",
)  # fmt: skip
_TEXT_COLUMNS = 3
# Columns that a terminal has no room for.
_MARKDOWN_ONLY = ("p90 ms", "peak MB")


def table(report: Report) -> Table:
    """Return the table for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=_heading(report),
        caption=_caption(report),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    shown = [number for number, name in enumerate(_HEADER) if name not in _MARKDOWN_ONLY]
    for number in shown:
        if number < _TEXT_COLUMNS:
            table.add_column(_HEADER[number], overflow="fold")
        else:
            table.add_column(_HEADER[number].replace(" ", "\n"), justify="right", no_wrap=True)
    for row in _rows(report):
        table.add_row(*(row[number].replace(" (", "\n(") for number in shown))
    return table


def notes(report: Report) -> list[str]:
    """Return one line for each reason why rows were skipped."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for item in report.skipped:
        reasons.setdefault((item.model.name, item.reason), []).append(item.backend)
    return [
        f"{model} was not run on {', '.join(backends)}: {reason}"
        for (model, reason), backends in reasons.items()
    ]


def markdown(report: Report) -> str:
    """Return a Markdown table with its title, caption, notes and warnings."""
    lines = [_HEADER, ["---"] * _TEXT_COLUMNS + ["---:"] * (len(_HEADER) - _TEXT_COLUMNS), *_rows(report)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    remarks = [
        *(f"Note: {note}" for note in notes(report)),
        *(f"Warning: {text}" for text in report.warnings),
    ]
    return "\n\n".join([_heading(report), body, _caption(report), *remarks]) + "\n"


def title(settings: Settings) -> str:
    """Describe a configuration in words."""
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    if not settings.lengths:
        return f"batch {settings.batch}, sequence {settings.seq}, {threads}"
    padding = 1 - settings.tokens / (settings.batch * settings.seq)
    lengths = f"{min(settings.lengths)} to {settings.seq}"
    return f"batch {settings.batch} of {lengths} tokens ({padding:.0%} padding), {threads}"


def _rows(report: Report) -> list[list[str]]:
    rows = []
    for run in report.runs:
        latency = run.latency
        rows.append([
            run.label, run.backend, str(run.precision), f"{latency.median:.2f}", f"{latency.p90:.2f}",
            f"{latency.p99:.2f}", f"{latency.spread:.1%}", _speedup(report, run), _error(run),
            f"{run.load_seconds:.2f}", _megabytes(run.memory["after_runs"]), _megabytes(run.memory["peak"]),
            _megabytes(run.size),
        ])  # fmt: skip
    return rows


def _speedup(report: Report, run: Run) -> str:
    if run is report.baseline:
        return "baseline"
    if run.speedup is None:
        return "wrong output"
    return f"{run.speedup.median:.2f} ({run.speedup.low:.2f}-{run.speedup.high:.2f})"


def _error(run: Run) -> str:
    return "-" if run.relative_error is None else f"{run.relative_error:.0e}"


def _heading(report: Report) -> str:
    return f"{title(report.settings)}; {report.settings.rounds} rounds of {report.iterations} iterations"


def _caption(report: Report) -> str:
    machine = describe()
    runtime = versions(("onnxruntime",))["onnxruntime"]
    baseline = report.baseline
    limits = {run.precision.dtype: run.precision.tolerance for run in report.runs}
    return (
        f"Baseline: {baseline.label} on {baseline.backend} (variant {baseline.variant}, the fastest). "
        f"Relative error: largest difference from the reference over its largest output; at most "
        f"{', '.join(f'{limit:g} in {dtype}' for dtype, limit in limits.items())}. "
        f"{machine['cpu']}, {machine['cores']} cores, kernels: {machine['kernels'] or 'none'}; "
        f"ONNX Runtime {runtime}{_details(report)}."
    )


def _details(report: Report) -> str:
    """Details of the other runtimes, each once."""
    found = dict.fromkeys(run.details for run in report.runs if run.details)
    return "".join(f"; {details}" for details in found)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.{0 if size >= 1e7 else 1}f}"
