"""Outcomes over seeds, and at densities between those that runs came out at."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aerogel.sweep.execute import Outcome

__all__ = ["Group", "Point", "Spread", "groups", "interpolate", "pareto"]

# What moves a run along its curve of density against metric; all else makes another curve.
_KNOBS = ("density", "option lambda", "option gamma")
_PROBLEM = ("task", "data", "eval_rows", "task_options")


def _close(density: float) -> float:
    """How far the density that whole weights allow may be from the one asked for."""
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
        method: of the runs.
        swept: what tells the group from the others.
        density: achieved, over the pruned matrices.
        encoder_density: achieved, over all encoder parameters.
        metrics: by name.
        failed: runs without an outcome.
        problem: what was to be learnt and measured; results of another are not to be held against these.
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
        """The swept settings that move a group off its curve of density against metric."""
        return _key({name: value for name, value in self.swept.items() if name not in _KNOBS})

    @property
    def label(self) -> str:
        """The swept settings in words, without the method."""
        shown = {name: value for name, value in self.swept.items() if name != "method"}
        return ", ".join(f"{name.removeprefix('option ')} {_text(value)}" for name, value in shown.items())


@dataclass(frozen=True)
class Point:
    """A metric at a density that was asked for.

    Attributes:
        method: of the curve.
        curve: what tells the curve from others of the method.
        density: asked for.
        metrics: by name, over the seeds whose runs lie on both sides; empty if there is none.
        failed: runs of the curve without an outcome; one of them may have been the neighbour.
    """

    method: str
    curve: dict[str, Any]
    density: float
    metrics: dict[str, Spread]
    failed: int


def groups(outcomes: Iterable[Outcome]) -> list[Group]:
    """Outcomes summarised over seeds, in the order in which they first occur."""
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
    """Metrics at `densities`, linear in density between neighbouring runs of one method and seed, then over the seeds.

    As the movement-pruning paper did for methods whose density is an outcome. Nothing is extrapolated.
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
    """Metrics at `density` on the line between the two runs next to it."""
    close = _close(density)
    below = [run for run in runs if run.density <= density + close]
    above = [run for run in runs if run.density >= density - close]
    if not below or not above:
        return {}
    low, high = max(below, key=lambda run: run.density), min(above, key=lambda run: run.density)
    span = high.density - low.density
    # Within the tolerance both may be the same run, or the wrong way round.
    weight = min(1.0, max(0.0, (density - low.density) / span)) if span > close else 0.0
    first, second = low.metrics or {}, high.metrics or {}
    return {name: first[name] + weight * (second[name] - first[name]) for name in first if name in second}


def pareto(found: Sequence[Group], metric: str) -> list[Group]:
    """Groups that no other of the same problem beats: none has the same density or less and a higher mean of `metric`.

    Problem by problem, the sparsest first.
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
    """Outcomes that agree in the swept settings whose names are kept, with those settings."""
    found: dict[str, tuple[dict[str, Any], list[Outcome]]] = {}
    for outcome in outcomes:
        swept = {name: value for name, value in outcome.run.swept.items() if keep(name)}
        found.setdefault(_key(swept), (swept, []))[1].append(outcome)
    return list(found.values())


def _key(swept: dict[str, Any]) -> str:
    return json.dumps(swept, sort_keys=True, default=str)


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
