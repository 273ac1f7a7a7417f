"""Plot latency and memory of every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aerogel.bench.report import title
from aerogel.bench.result import Report, Run
from aerogel.errors import UsageError, require
from aerogel.system.atomic_io import atomic_file

__all__ = ["check", "plot"]

# The Okabe-Ito palette, which is safe for colour-blind readers: blue, sky blue, orange and vermilion.
_BASELINE, _DENSE, _SPARSE, _WRONG = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"


def check(path: Path) -> None:
    """Check before measuring that a plot can be written to `path`.

    Raises:
        UsageError: the suffix is not that of a picture format.
        MissingExtraError: matplotlib is not installed.
    """
    figures = require("matplotlib.backends.backend_agg", "bench")
    known = sorted(figures.FigureCanvasAgg.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in known:
        raise UsageError(
            f"--plot {path}: unknown picture format; give a name that ends in .png, .svg or .pdf"
        )


def plot(reports: Sequence[Report], path: Path) -> None:
    """Draw median latency (whiskers to p99) and RSS as bars; the suffix of `path` sets the file format."""
    check(path)
    bars = [len(report.runs) for report in reports]
    figure = require("matplotlib.figure", "bench").Figure(
        figsize=(10, sum(1.6 + 0.5 * count for count in bars)), layout="constrained"
    )
    parts = figure.subfigures(len(reports), 1, squeeze=False, height_ratios=[count + 3 for count in bars])
    for part, report in zip(parts[:, 0], reports, strict=True):
        _draw(part, report)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".").lower(), dpi=150)


def _draw(figure: Any, report: Report) -> None:
    """Draw one configuration: latency on the left, memory on the right."""
    times, memory = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    rows = range(len(report.runs))
    colours = [_colour(report, run) for run in report.runs]
    medians = [run.latency.median for run in report.runs]
    tails = [run.latency.p99 - run.latency.median for run in report.runs]
    times.barh(rows, medians, color=colours, xerr=([0.0] * len(medians), tails), capsize=3)
    for row, run in zip(rows, report.runs, strict=True):
        gain = f", {run.speedup.median:.2f}x" if run.speedup else ", wrong output"
        text = f"{run.latency.median:.1f} ms{'' if run is report.baseline else gain}"
        times.text(run.latency.p99, row, f"  {text}", va="center", fontsize=9)
    times.set_xlim(0, 1.35 * max(run.latency.p99 for run in report.runs))
    times.set_yticks(
        rows, [f"{run.label}\n{run.backend}, {run.precision}" for run in report.runs], fontsize=9
    )
    times.invert_yaxis()
    times.set_xlabel("latency, ms (bar: median, whisker: 99th percentile)")
    sizes = [run.memory["after_runs"] / 1e6 for run in report.runs]
    memory.bar_label(memory.barh(rows, sizes, color=colours), fmt=" %.0f", fontsize=9)
    memory.set_xlim(0, 1.2 * max(sizes))
    memory.set_xlabel("RSS, MB")
    for axes in (times, memory):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title(report.settings), fontsize=11)


def _colour(report: Report, run: Run) -> str:
    if run is report.baseline:
        return _BASELINE
    return (_SPARSE if run.precision.sparse else _DENSE) if run.correct else _WRONG
