"""The ratios that are aimed at, and whether they were met."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from aerogel.bench.result import Report, Run
from aerogel.bench.statistics import speedup

__all__ = ["Outcome", "check", "load"]


@dataclass(frozen=True)
class Outcome:
    """One target at one point: what was aimed at, what was found (None: not measured) and whether that is enough."""

    what: str
    point: str
    aim: str
    found: float | None
    detail: str

    met: bool | None


def load() -> list[dict[str, Any]]:
    """The entries of targets.json.

    Each has `what`, `points`, `row` and `against` (alternatives, the best of which counts), every row as label,
    candidate and kind; `at_least` for a ratio of times or `at_most` for one of resident memory; and
    `other_point` where `against` is found at another point.
    """
    entries: list[dict[str, Any]] = json.loads(
        files("aerogel.bench.cpu").joinpath("targets.json").read_text(encoding="utf-8")
    )
    return entries


def check(reports: Mapping[str, Report], entries: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    """Compare what was measured, by name of the point, with what is aimed at."""
    return [_check(reports, entry, point) for entry in entries for point in entry["points"]]


def _check(reports: Mapping[str, Report], entry: Mapping[str, Any], point: str) -> Outcome:
    memory = "at_most" in entry
    aim = f"at most {entry['at_most']:.0%}" if memory else f"at least {entry['at_least']}"
    row = _find(reports.get(point), entry["row"])
    other = reports.get(entry.get("other_point", point))
    rivals = [run for words in entry["against"] if (run := _find(other, words))]
    if row is None or not rivals:
        missing = entry["row"] if row is None else entry["against"][0]
        return Outcome(entry["what"], point, aim, None, f"not measured: {', '.join(missing)}", None)
    if memory:
        best = min(rivals, key=lambda run: run.memory["after_runs"])
        ours, theirs = row.memory["after_runs"] / 1e6, best.memory["after_runs"] / 1e6
        found = ours / theirs
        detail = f"{ours:.0f} MB against {theirs:.0f} ({best.candidate})"
        return Outcome(entry["what"], point, aim, found, detail, found <= entry["at_most"])
    best = min(rivals, key=lambda run: run.latency.median)
    # Round by round where the rounds stood beside one another.
    paired = other is reports.get(point)
    found = speedup(best.latency, row.latency).median if paired else best.latency.median / row.latency.median
    detail = f"{row.latency.median:.2f} ms against {best.latency.median:.2f} ({best.candidate})"
    return Outcome(entry["what"], point, aim, found, detail, found >= entry["at_least"])


def _find(report: Report | None, words: Sequence[str]) -> Run | None:
    """The run of that label, candidate and kind, if its outputs were right."""
    if report is None:
        return None
    return next(
        (
            run
            for run in report.runs
            if [run.label, run.candidate, str(run.kind)] == list(words) and run.correct
        ),
        None,
    )
