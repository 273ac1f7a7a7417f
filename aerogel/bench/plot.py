"""A measurement as a picture: latency and memory of every run."""

from __future__ import annotations

from pathlib import Path

from aerogel.bench.report import labels
from aerogel.bench.result import Report
from aerogel.errors import UsageError, require
from aerogel.files import atomic_file

__all__ = ["check", "plot"]

# Okabe and Ito's blue, orange and vermilion, which readers with any colour vision tell apart.
_BASELINE, _MEASURED, _WRONG = "#0072B2", "#E69F00", "#D55E00"


def check(path: Path) -> None:
    """Raise before anything is measured if a plot could not be written to `path`.

    Raises:
        UsageError: the suffix is not that of a picture.
        MissingExtraError: matplotlib is not installed.
    """
    figures = require("matplotlib.backends.backend_agg", "bench")
    known = sorted(figures.FigureCanvasAgg.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in known:
        raise UsageError(
            f"--plot {path}: unknown kind of picture; give a name that ends in .png, .svg or .pdf"
        )


def plot(report: Report, path: Path) -> None:
    """Draw median latency (whiskers up to p99) and resident memory as bars; the suffix gives the format."""
    check(path)
    figure = require("matplotlib.figure", "bench").Figure(
        figsize=(10, 1.6 + 0.5 * len(report.runs)), layout="constrained"
    )
    times, memory = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    names = labels(report)
    rows = range(len(report.runs))
    colours = [
        _BASELINE if run is report.baseline else _MEASURED if run.correct else _WRONG for run in report.runs
    ]
    medians = [run.latency.median for run in report.runs]
    tails = [run.latency.p99 - run.latency.median for run in report.runs]
    times.barh(rows, medians, color=colours, xerr=([0.0] * len(medians), tails), capsize=3)
    for row, run in zip(rows, report.runs, strict=True):
        gain = f", {run.speedup.median:.2f}x" if run.speedup else ", wrong output"
        text = f"{run.latency.median:.1f} ms{'' if run is report.baseline else gain}"
        times.text(run.latency.p99, row, f"  {text}", va="center", fontsize=9)
    times.set_xlim(0, 1.35 * max(run.latency.p99 for run in report.runs))
    times.set_yticks(rows, [f"{names[run.model]}\n{run.candidate}" for run in report.runs], fontsize=9)
    times.invert_yaxis()
    times.set_xlabel("latency, ms (bar: median, whisker: 99th percentile)")
    sizes = [run.memory["after_runs"] / 1e6 for run in report.runs]
    memory.bar_label(memory.barh(rows, sizes, color=colours), fmt=" %.0f", fontsize=9)
    memory.set_xlim(0, 1.2 * max(sizes))
    memory.set_xlabel("resident memory, MB")
    for axes in (times, memory):
        axes.spines[["top", "right"]].set_visible(False)
    s = report.settings
    figure.suptitle(
        f"batch {s.batch}, sequence {s.seq}, {s.threads} thread{'s' * (s.threads > 1)}", fontsize=11
    )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".").lower(), dpi=150)
