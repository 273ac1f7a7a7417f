"""Check results against the target ratios of targets.json."""

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
    """One target in one configuration.

    Attributes:
        target: what is compared.
        configuration: name of the configuration.
        aim: the target ratio in words, such as "at least 2.0".
        found: the measured ratio; None if it was not measured.
        detail: the two measured values.
        met: whether `found` meets the target; None if it was not measured.
    """

    target: str
    configuration: str
    aim: str
    found: float | None
    detail: str
    met: bool | None


def load() -> list[dict[str, Any]]:
    """Return the entries of targets.json.

    Each has `target`, `configurations`, `row` and `against` (alternatives, the best of which counts); a row is a label,
    a backend and a precision. `at_least` bounds a ratio of latencies, `at_most` one of RSS. With
    `against_configuration`, the rows of `against` are those of another configuration.
    """
    entries: list[dict[str, Any]] = json.loads(
        files("aerogel.bench.cpu").joinpath("targets.json").read_text(encoding="utf-8")
    )
    return entries


def check(reports: Mapping[str, Report], entries: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    """Compare the reports, by name of the configuration, with the targets."""
    return [_check(reports, entry, name) for entry in entries for name in entry["configurations"]]


def _check(reports: Mapping[str, Report], entry: Mapping[str, Any], name: str) -> Outcome:
    memory = "at_most" in entry
    aim = f"at most {entry['at_most']:.0%}" if memory else f"at least {entry['at_least']}"
    row = _find(reports.get(name), entry["row"])
    other = reports.get(entry.get("against_configuration", name))
    against = [run for words in entry["against"] if (run := _find(other, words))]
    if row is None or not against:
        missing = entry["row"] if row is None else entry["against"][0]
        return Outcome(entry["target"], name, aim, None, f"not measured: {', '.join(missing)}", None)
    if memory:
        best = min(against, key=lambda run: run.memory["after_runs"])
        own_mb, best_mb = row.memory["after_runs"] / 1e6, best.memory["after_runs"] / 1e6
        found = own_mb / best_mb
        detail = f"{own_mb:.0f} MB against {best_mb:.0f} ({best.backend})"
        return Outcome(entry["target"], name, aim, found, detail, found <= entry["at_most"])
    best = min(against, key=lambda run: run.latency.median)
    # Rounds can be compared one by one only within one configuration, where both took turns.
    paired = other is reports.get(name)
    found = speedup(best.latency, row.latency).median if paired else best.latency.median / row.latency.median
    detail = f"{row.latency.median:.2f} ms against {best.latency.median:.2f} ({best.backend})"
    return Outcome(entry["target"], name, aim, found, detail, found >= entry["at_least"])


def _find(report: Report | None, words: Sequence[str]) -> Run | None:
    """The run with this label, backend and precision, if its outputs are correct."""
    if report is None:
        return None
    return next(
        (
            run
            for run in report.runs
            if [run.label, run.backend, str(run.precision)] == list(words) and run.correct
        ),
        None,
    )
