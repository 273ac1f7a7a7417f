"""A measurement as a table, on the terminal and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.bench.machine import describe
from aerogel.bench.result import Report, Run, Settings
from aerogel.system.versions import versions

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["markdown", "notes", "table", "title"]

_HEADER = (
    "model", "runtime", "kind", "median ms", "p90 ms", "p99 ms", "spread", "speed-up", "error", "open s",
    "resident MB", "peak MB", "file MB",
)  # fmt: skip
_WORDS = 3
# What a terminal has no room for.
_WIDE = ("p90 ms", "peak MB")


def table(report: Report) -> Table:
    """The measurement for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=_heading(report),
        caption=_caption(report),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    shown = [number for number, name in enumerate(_HEADER) if name not in _WIDE]
    for number in shown:
        if number < _WORDS:
            table.add_column(_HEADER[number], overflow="fold")
        else:
            table.add_column(_HEADER[number].replace(" ", "\n"), justify="right", no_wrap=True)
    for row in _rows(report):
        table.add_row(*(row[number].replace(" (", "\n(") for number in shown))
    return table


def notes(report: Report) -> list[str]:
    """What was not measured and why, a line for each reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for item in report.skipped:
        reasons.setdefault((item.model.name, item.reason), []).append(item.candidate)
    return [
        f"{model} was not run on {', '.join(candidates)}: {reason}"
        for (model, reason), candidates in reasons.items()
    ]


def markdown(report: Report) -> str:
    """The measurement as a Markdown table with its title and caption."""
    lines = [_HEADER, ["---"] * _WORDS + ["---:"] * (len(_HEADER) - _WORDS), *_rows(report)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    said = [*(f"Note: {note}" for note in notes(report)), *(f"Warning: {text}" for text in report.warnings)]
    return "\n\n".join([_heading(report), body, _caption(report), *said]) + "\n"


def title(settings: Settings) -> str:
    """A point in words."""
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
            run.label, run.candidate, str(run.kind), f"{latency.median:.2f}", f"{latency.p90:.2f}",
            f"{latency.p99:.2f}", f"{latency.spread:.1%}", _gain(report, run), _error(run),
            f"{run.open_seconds:.2f}", _megabytes(run.memory["after_runs"]), _megabytes(run.memory["peak"]),
            _megabytes(run.size),
        ])  # fmt: skip
    return rows


def _gain(report: Report, run: Run) -> str:
    if run is report.baseline:
        return "baseline"
    if run.speedup is None:
        return "wrong output"
    return f"{run.speedup.median:.2f} ({run.speedup.low:.2f}-{run.speedup.high:.2f})"


def _error(run: Run) -> str:
    return "-" if run.difference is None else f"{run.difference:.0e}"


def _heading(report: Report) -> str:
    return f"{title(report.settings)}; {report.settings.rounds} rounds of {report.repeats} inferences"


def _caption(report: Report) -> str:
    machine = describe()
    found = versions(("onnxruntime",))["onnxruntime"]
    best = report.baseline
    limits = {run.kind.precision: run.kind.tolerance for run in report.runs}
    return (
        f"Baseline: {best.label} on {best.candidate} ({best.setting}, its fastest setting). "
        f"Error: largest difference over the reference's largest output; at most "
        f"{', '.join(f'{limit:g} in {precision}' for precision, limit in limits.items())}. "
        f"{machine['cpu']}, {machine['cores']} cores, kernels: {machine['kernels'] or 'none'}; "
        f"ONNX Runtime {found}{_others(report)}."
    )


def _others(report: Report) -> str:
    """What the other runtimes said of themselves, each once."""
    said = dict.fromkeys(run.details for run in report.runs if run.details)
    return "".join(f"; {details}" for details in said)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.{0 if size >= 1e7 else 1}f}"
