"""What came out, in Markdown and as a picture: tables, targets, latency against density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerogel.bench import report as tables
from aerogel.bench.cpu.targets import Outcome
from aerogel.bench.result import STOCK, Report
from aerogel.errors import require
from aerogel.files import atomic_file

__all__ = ["Curve", "break_even", "curves", "density_plot", "markdown"]

_DENSE_INT8 = ("onnxruntime-int8", "openvino-int8")
# Okabe and Ito's colours, which readers with any colour vision tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")


@dataclass(frozen=True)
class Curve:
    """Median milliseconds by percent of weights kept."""

    name: str
    percent: tuple[int, ...]
    milliseconds: tuple[float, ...]


def curves(reports: Mapping[int, Report]) -> tuple[list[Curve], dict[str, float]]:
    """Sparse rows of the reports, by percent kept, as curves, and the dense ones as one number each.

    The dense numbers are medians over all reports: "dense fp32" of stock ONNX Runtime, and "dense int8" of the fastest
    dense int8 runtime in each.
    """
    lines: dict[str, list[tuple[int, float]]] = {}
    dense: dict[str, list[float]] = {}
    for percent, report in sorted(reports.items()):
        int8 = []
        for run in report.runs:
            if not run.correct:
                continue
            if run.candidate == STOCK:
                dense.setdefault("dense fp32", []).append(run.latency.median)
            elif run.candidate in _DENSE_INT8:
                int8.append(run.latency.median)
            else:
                mask = run.label.partition(" ")[2]
                name = f"{mask}, {run.kind.precision}, {run.candidate}"
                lines.setdefault(name, []).append((percent, run.latency.median))
        if int8:
            dense.setdefault("dense int8", []).append(min(int8))
    found = [Curve(name, *map(tuple, zip(*points, strict=True))) for name, points in lines.items()]
    return found, {name: float(np.median(values)) for name, values in dense.items()}


def break_even(curve: Curve, milliseconds: float) -> str:
    """Percent of weights kept at which the curve reaches that time, between what was measured."""
    if curve.milliseconds[0] >= milliseconds:
        return f"below {curve.percent[0]}%"
    for i in range(1, len(curve.percent)):
        low, high = curve.milliseconds[i - 1], curve.milliseconds[i]
        if high >= milliseconds:
            share = (milliseconds - low) / (high - low)
            return f"{curve.percent[i - 1] + share * (curve.percent[i] - curve.percent[i - 1]):.0f}%"
    return f"above {curve.percent[-1]}%"


def density_plot(lines: Sequence[Curve], dense: Mapping[str, float], path: Path) -> None:
    """Draw latency against density, dense runtimes as level lines.

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
    """The whole document.

    Args:
        command: what was run.
        measured: words for each point and what was found there.
        outcomes: targets.
        lines: curves of latency by density.
        dense: levels that they are compared with, milliseconds.
        notes: what was left out.
    """
    parts = ["# CPU", f"    {command}", *(f"- {note}" for note in notes)]
    if outcomes:
        parts += ["## Targets", _targets(outcomes)]
    for what, report in measured:
        parts += [f"## {what}", tables.markdown(report).rstrip()]
    if lines:
        parts += ["## Latency against density", _table(lines, dense)]
    return "\n\n".join(parts) + "\n"


def _targets(outcomes: Sequence[Outcome]) -> str:
    rows = ["| target | point | aim | found | | |", "| --- | --- | --- | ---: | --- | --- |"]
    for item in outcomes:
        found = "-" if item.found is None else f"{item.found:.0%}" if "%" in item.aim else f"{item.found:.2f}"
        verdict = {None: "not measured", True: "met", False: "missed"}[item.met]
        rows.append(f"| {item.what} | {item.point} | {item.aim} | {found} | {verdict} | {item.detail} |")
    return "\n".join(rows)


def _table(lines: Sequence[Curve], dense: Mapping[str, float]) -> str:
    percents = sorted({percent for curve in lines for percent in curve.percent})
    head = [
        "mask, arithmetic, runtime; ms",
        *(f"{percent}%" for percent in percents),
        *(f"break-even with {n}" for n in dense),
    ]
    rows = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for curve in lines:
        known = dict(zip(curve.percent, curve.milliseconds, strict=True))
        cells = [f"{known[percent]:.1f}" if percent in known else "" for percent in percents]
        cells += [break_even(curve, value) for value in dense.values()]
        rows.append(f"| {curve.name} | {' | '.join(cells)} |")
    levels = ", ".join(f"{name} {value:.1f} ms" for name, value in dense.items())
    return "\n".join(rows) + f"\n\nLevels: {levels}."
