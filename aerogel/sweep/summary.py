"""Summaries of outcomes: over seeds, interpolated in density, and the Pareto front."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aerogel.sweep.execute import Outcome

__all__ = ["Group", "Point", "Spread", "groups", "interpolate", "pareto"]

# Settings that move a run along its curve of metric against density; any other setting starts another curve.
_KNOBS = ("density", "option lambda", "option gamma")
_PROBLEM = ("task", "data", "eval_rows", "task_options")


def _close(density: float) -> float:
    """Difference up to which a run's density counts as `density`; weights are whole, so few densities are exact."""
    return min(5e-4, 0.01 * density)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (None of a single value) of `n` values."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(
            statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
        )

    def __format__(self, form: str) -> str:
        return format(self.mean, form) + ("" if self.sd is None else f" ± {format(self.sd, form)}")


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        method: method of the runs.
        swept: the settings that distinguish the group.
        density: achieved density of the pruned matrices.
        encoder_density: achieved density of all encoder parameters.
        metrics: by name.
        failed: number of runs that failed.
        problem: task, data and evaluation; only metrics of the same problem are comparable.
    """

    method: str
    swept: dict[str, Any]
    density: Spread | None
    encoder_density: Spread | None
    metrics: dict[str, Spread]
    failed: int
    problem: str

    @property
    def curve(self) -> str:
        """Key of the curve that the group is on: its swept settings except those that move along a curve."""
        return _key({name: value for name, value in self.swept.items() if name not in _KNOBS})

    @property
    def label(self) -> str:
        """The swept settings as text, without the method."""
        shown = {name: value for name, value in self.swept.items() if name != "method"}
        return ", ".join(f"{name.removeprefix('option ')} {_text(value)}" for name, value in shown.items())


@dataclass(frozen=True)
class Point:
    """Metrics of a curve, interpolated at a requested density.

    Attributes:
        method: method of the curve.
        curve: the settings that distinguish the curve.
        density: the requested density.
        metrics: by name, over the seeds with runs on both sides of the density; empty without such a seed.
        failed: number of failed runs of the curve; one of them may have been a nearer neighbor.
    """

    method: str
    curve: dict[str, Any]
    density: float
    metrics: dict[str, Spread]
    failed: int


def groups(outcomes: Iterable[Outcome]) -> list[Group]:
    """Outcomes summarized over seeds, in the order of their first occurrence."""
    made = []
    for swept, members in _gather(outcomes, lambda name: name != "seed"):
        done = [outcome for outcome in members if outcome.metrics is not None]
        names = list(dict.fromkeys(name for outcome in done for name in outcome.metrics or {}))
        made.append(
            Group(
                swept["method"], swept,
                Spread.of([outcome.density for outcome in done]) if done else None,
                Spread.of([outcome.encoder_density for outcome in done]) if done else None,
                {name: Spread.of([o.metrics[name] for o in done if o.metrics and name in o.metrics]) for name in names},
                len(members) - len(done),
                _key({name: getattr(members[0].run.config, name) for name in _PROBLEM}),
            )
        )  # fmt: skip
    return made


def interpolate(outcomes: Iterable[Outcome], densities: Sequence[float]) -> list[Point]:
    """Metrics at `densities`: linear in density between neighboring runs of a curve and seed, summarized over seeds.

    The movement-pruning paper does this for methods whose density is an outcome. Nothing is extrapolated.
    """
    points = []
    for curve, members in _gather(outcomes, lambda name: name != "seed" and name not in _KNOBS):
        done = [
            outcome
            for outcome in members
            if outcome.metrics is not None and outcome.run.config.method != "dense"
        ]
        if not done:
            continue
        failed = sum(outcome.metrics is None for outcome in members)
        for density in densities:
            found: dict[str, list[float]] = {}
            for seed in dict.fromkeys(outcome.run.config.seed for outcome in done):
                runs = [outcome for outcome in done if outcome.run.config.seed == seed]
                for name, value in _between(runs, density).items():
                    found.setdefault(name, []).append(value)
            spreads = {name: Spread.of(values) for name, values in found.items()}
            points.append(Point(curve["method"], curve, density, spreads, failed))
    return points


def _between(runs: Sequence[Outcome], density: float) -> dict[str, float]:
    """Metrics at `density`, interpolated between the nearest run on each side; empty without one."""
    close = _close(density)
    below = [run for run in runs if run.density <= density + close]
    above = [run for run in runs if run.density >= density - close]
    if not below or not above:
        return {}
    low, high = max(below, key=lambda run: run.density), min(above, key=lambda run: run.density)
    span = high.density - low.density
    # Within the tolerance, both may be the same run, or `low` may have the higher density.
    weight = min(1.0, max(0.0, (density - low.density) / span)) if span > close else 0.0
    first, second = low.metrics or {}, high.metrics or {}
    return {name: first[name] + weight * (second[name] - first[name]) for name in first if name in second}


def pareto(found: Sequence[Group], metric: str) -> list[Group]:
    """Groups on the Pareto front of their problem: no other has at most its density and a higher mean of `metric`.

    Ordered by problem, then by density.
    """
    problems: dict[str, list[Group]] = {}
    for group in found:
        if group.density and metric in group.metrics:
            problems.setdefault(group.problem, []).append(group)
    fronts: list[Group] = []
    for known in problems.values():
        known.sort(
            key=lambda group: (group.density.mean if group.density else 0.0, -group.metrics[metric].mean)
        )
        front: list[Group] = []
        for group in known:
            if not front or group.metrics[metric].mean > front[-1].metrics[metric].mean:
                front.append(group)
        fronts += front
    return fronts


def _gather(
    outcomes: Iterable[Outcome], keep: Callable[[str], bool]
) -> list[tuple[dict[str, Any], list[Outcome]]]:
    """Outcomes grouped by the swept settings whose names `keep` accepts, with those settings."""
    found: dict[str, tuple[dict[str, Any], list[Outcome]]] = {}
    for outcome in outcomes:
        swept = {name: value for name, value in outcome.run.swept.items() if keep(name)}
        found.setdefault(_key(swept), (swept, []))[1].append(outcome)
    return list(found.values())


def _key(swept: dict[str, Any]) -> str:
    return json.dumps(swept, sort_keys=True, default=str)


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
