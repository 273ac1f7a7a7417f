"""Table, JSON document and plot of a load test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.errors import UsageError, require
from aerogel.loadtest.measure import Point
from aerogel.loadtest.run import LoadConfig, Result
from aerogel.system.atomic_io import atomic_file
from aerogel.system.terminal import rich_table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["MAX_LAG", "check_plot", "document", "plot", "table"]

_SCHEMA = 1
_LATENCIES = ("mean", "p50", "p90", "p99", "p999", "worst")

MAX_LAG = 1.0
"""Milliseconds of the generator's own lateness, at p99, from which a warning is printed."""


def table(points: Sequence[Point], title: str, bound: float | None) -> Table:
    """One row per measurement; rates that hold the bound are green, the others red."""
    header = [
        "rate/s",
        "requests",
        "answered/s",
        "errors",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
    ]
    found = rich_table(header, [], title, words=0)
    for point in points:
        errors = ", ".join(f"{count} x {outcome}" for outcome, count in point.errors.items()) or "0"
        times = (point.p50, point.p90, point.p99, point.p999, point.worst)
        style = None if bound is None else "green" if point.holds(bound) else "red"
        found.add_row(
            f"{point.rate:,.1f}",
            f"{point.requests:,}",
            f"{point.answered:,.1f}",
            errors,
            *("-" if math.isnan(value) else f"{value:,.2f}" for value in times),
            style=style,
        )
    return found


def document(config: LoadConfig, route: str, result: Result) -> dict[str, Any]:
    """The JSON document of a test. It has no headers, which may contain keys."""
    return {
        "schema": _SCHEMA,
        "url": config.url,
        "route": route,
        "model": config.model,
        "settings": {
            "seconds": config.seconds,
            "warmup": config.warmup,
            "seed": config.seed,
            "connections": config.connections,
            "timeout": config.timeout,
            "texts": None if config.texts is None else str(config.texts),
            "lengths": None if config.texts is not None else asdict(config.lengths),
            "bound_ms": config.bound,
            "precision": config.precision,
        },
        "points": [_encoded(point) for point in result.points],
        "found": None if result.found is None else _encoded(result.found),
    }


def check_plot(path: Path) -> None:
    """Check before measuring that a plot can be written.

    Raises:
        UsageError: the suffix is not that of a picture format.
        MissingExtraError: matplotlib is not installed.
    """
    figures = require("matplotlib.backends.backend_agg", "bench")
    if path.suffix.removeprefix(".").lower() not in figures.FigureCanvasAgg.get_supported_filetypes():
        raise UsageError(
            f"--plot {path}: unknown picture format; give a name that ends in .png, .svg or .pdf"
        )


def plot(points: Sequence[Point], title: str, bound: float | None, path: Path) -> None:
    """Draw p50 and p99 against the rate; measurements with errors are hollow."""
    figure = require("matplotlib.figure", "bench").Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(points, key=lambda point: point.rate)
    rates = [point.rate for point in ordered]
    for name, colour in (("p50", "#0072B2"), ("p99", "#D55E00")):
        values = [getattr(point, name) for point in ordered]
        axes.plot(rates, values, color=colour, label=name)
        faces = ["white" if point.failed else colour for point in ordered]
        axes.scatter(rates, values, c=faces, edgecolors=colour, zorder=3)
    if bound is not None:
        axes.axhline(bound, color="#555555", linestyle="--", linewidth=1, label=f"{bound:g} ms")
    axes.set_yscale("log")
    plain = require("matplotlib.ticker", "bench").StrMethodFormatter("{x:g}")
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(plain)
    axes.set_xlim(left=0)
    axes.set_xlabel("requests per second (Poisson arrivals)")
    axes.set_ylabel("latency from the arrival, ms")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title(title, fontsize=11)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".").lower(), dpi=150)


def _encoded(point: Point) -> dict[str, Any]:
    """JSON has no NaN: null."""
    found = asdict(point)
    times = {name: found.pop(name) for name in (*_LATENCIES, "lag_p99")}
    lag = times.pop("lag_p99")
    found["latency_ms"] = {name: None if math.isnan(value) else value for name, value in times.items()}
    found["lag_p99_ms"] = None if math.isnan(lag) else lag
    return found
