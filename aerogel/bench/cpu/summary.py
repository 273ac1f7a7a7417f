"""Summarise the CPU benchmark: tables and targets in Markdown, and a plot of latency against density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerogel.bench import report as tables
from aerogel.bench.cpu.targets import Outcome
from aerogel.bench.result import STOCK, Report
from aerogel.errors import require
from aerogel.system.atomic_io import atomic_file

__all__ = ["Curve", "break_even", "curves", "density_plot", "markdown"]

_DENSE_INT8 = ("onnxruntime-int8", "openvino-int8")
# The Okabe-Ito palette, which is safe for colour-blind readers.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")


@dataclass(frozen=True)
class Curve:
    """Median milliseconds by percent of weights kept, and their ratios to each dense level of the same report."""

    name: str
    percent: tuple[int, ...]
    milliseconds: tuple[float, ...]
    ratios: dict[str, tuple[float, ...]]


def curves(reports: Mapping[int, Report]) -> tuple[list[Curve], dict[str, float]]:
    """Return the sparse rows of the reports, by percent kept, as curves, and the dense rows as one level each.

    The levels are medians over all reports: "dense fp32" of stock ONNX Runtime, and "dense int8" of the fastest dense
    int8 backend of each report.
    """
    lines: dict[str, list[tuple[int, float, dict[str, float]]]] = {}
    dense: dict[str, list[float]] = {}
    for percent, report in sorted(reports.items()):
        levels = _levels(report)
        for name, value in levels.items():
            dense.setdefault(name, []).append(value)
        for run in report.runs:
            if run.correct and run.precision.sparse:
                mask = run.label.partition(" ")[2]
                ratios = {name: run.latency.median / value for name, value in levels.items()}
                line = lines.setdefault(f"{mask}, {run.precision.dtype}, {run.backend}", [])
                line.append((percent, run.latency.median, ratios))
    found = []
    for name, line in lines.items():
        percents, times, ratios_by_percent = zip(*line, strict=True)
        common = [level for level in dense if all(level in ratios for ratios in ratios_by_percent)]
        by_level = {level: tuple(ratios[level] for ratios in ratios_by_percent) for level in common}
        found.append(Curve(name, percents, times, by_level))
    return found, {name: float(np.median(values)) for name, values in dense.items()}


def _levels(report: Report) -> dict[str, float]:
    """Milliseconds of the dense baseline and of the fastest correct dense int8 row."""
    int8 = [run.latency.median for run in report.runs if run.backend in _DENSE_INT8 and run.correct]
    fp32 = [run.latency.median for run in report.runs if run.backend == STOCK]
    return {"dense fp32": min(fp32)} | ({"dense int8": min(int8)} if int8 else {})


def break_even(curve: Curve, level: str) -> str:
    """Return the percent of weights kept at which a curve reaches a dense level, interpolated between densities.

    Each density is compared with the dense model of the same report, so that drift between reports cancels.
    """
    ratios = curve.ratios.get(level)
    if ratios is None:
        return "not measured"
    if ratios[0] >= 1:
        return f"below {curve.percent[0]}%"
    for i in range(1, len(curve.percent)):
        low, high = ratios[i - 1], ratios[i]
        if high >= 1:
            fraction = (1 - low) / (high - low)
            return f"{curve.percent[i - 1] + fraction * (curve.percent[i] - curve.percent[i - 1]):.0f}%"
    return f"above {curve.percent[-1]}%"


def density_plot(lines: Sequence[Curve], dense: Mapping[str, float], path: Path) -> None:
    """Draw latency against density, with the dense levels as horizontal lines.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "bench").Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for curve, colour in zip(lines, _COLOURS, strict=False):
        axes.plot(curve.percent, curve.milliseconds, "o-", color=colour, label=curve.name)
    for (name, value), style in zip(dense.items(), ("--", ":"), strict=False):
        axes.axhline(value, color="black", linestyle=style, label=f"{name}, {value:.0f} ms")
    axes.set(xlabel="weights kept, %", ylabel="latency, ms (median)", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=150)


def markdown(
    command: str,
    measured: Sequence[tuple[str, Report]],
    outcomes: Sequence[Outcome],
    lines: Sequence[Curve],
    dense: Mapping[str, float],
    notes: Sequence[str],
) -> str:
    """Return the whole document.

    Args:
        command: the command line that was run.
        measured: title and report of each configuration.
        outcomes: results of the targets.
        lines: curves of latency by density.
        dense: dense levels to compare them with, in milliseconds.
        notes: what was skipped, with the reason.
    """
    parts = ["# CPU", f"    {command}", *(f"- {note}" for note in notes)]
    if outcomes:
        parts += ["## Targets", _targets(outcomes)]
    for title, report in measured:
        parts += [f"## {title}", tables.markdown(report).rstrip()]
    if lines:
        parts += ["## Latency against density", _table(lines, dense)]
    return "\n\n".join(parts) + "\n"


def _targets(outcomes: Sequence[Outcome]) -> str:
    rows = [
        "| target | configuration | aim | measured | result | |",
        "| --- | --- | --- | ---: | --- | --- |",
    ]
    for item in outcomes:
        found = "-" if item.found is None else f"{item.found:.0%}" if "%" in item.aim else f"{item.found:.2f}"
        verdict = {None: "not measured", True: "met", False: "missed"}[item.met]
        rows.append(
            f"| {item.target} | {item.configuration} | {item.aim} | {found} | {verdict} | {item.detail} |"
        )
    return "\n".join(rows)


def _table(lines: Sequence[Curve], dense: Mapping[str, float]) -> str:
    percents = sorted({percent for curve in lines for percent in curve.percent})
    head = [
        "mask, precision, backend; ms",
        *(f"{percent}%" for percent in percents),
        *(f"break-even with {n}" for n in dense),
    ]
    rows = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for curve in lines:
        known = dict(zip(curve.percent, curve.milliseconds, strict=True))
        cells = [f"{known[percent]:.1f}" if percent in known else "" for percent in percents]
        cells += [break_even(curve, level) for level in dense]
        rows.append(f"| {curve.name} | {' | '.join(cells)} |")
    levels = ", ".join(f"{name} {value:.1f} ms" for name, value in dense.items())
    return "\n".join(rows) + f"\n\nLevels: {levels}."
