"""Results of a sweep: a JSON document, tables, and a plot of a metric against density."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aerogel import __version__
from aerogel.inspect import figures
from aerogel.inspect.section import Table
from aerogel.sweep.execute import Outcome
from aerogel.sweep.summary import Group, Point, Spread, groups, interpolate, pareto

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SCHEMA", "Results", "results"]

SCHEMA = 1
"""Version of the JSON document's layout; docs/sweeps.md describes it."""


@dataclass(frozen=True)
class Results:
    """Results of a sweep.

    Attributes:
        outcomes: the outcome of each run.
        groups: runs that differ in their seed only, summarized.
        points: metrics interpolated at requested densities.
        metric: metric that is plotted and compared; None if no run finished.
    """

    outcomes: list[Outcome]
    groups: list[Group]
    points: list[Point]
    metric: str | None

    @property
    def front(self) -> list[Group]:
        """Groups that no other beats in density and metric."""
        return pareto(self.groups, self.metric) if self.metric else []

    @property
    def plotted(self) -> list[Group]:
        """Groups in the plot: those with the metric and a density above 0, as the axis is logarithmic."""
        return [g for g in self.groups if self.metric in g.metrics and g.density and g.density.mean > 0]

    @property
    def failures(self) -> list[Outcome]:
        """Outcomes of the runs that failed."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    def document(self) -> dict[str, Any]:
        """The results as JSON values."""
        front = self.front
        return {
            "schema": SCHEMA,
            "aerogel": __version__,
            "metric": self.metric,
            "runs": [_run(outcome) for outcome in self.outcomes],
            "groups": [{**asdict(group), "pareto": group in front} for group in self.groups],
            "interpolated": [asdict(point) for point in self.points],
        }

    def tables(self) -> list[Table]:
        """A table of the groups, and one of interpolated metrics if there are any."""
        names = list(dict.fromkeys(name for group in self.groups for name in group.metrics))
        front, failed = self.front, (("failed",) if self.failures else ())
        rows = [
            [
                group.method, group.label, _cell(group.density, ".4f"), _cell(group.encoder_density, ".4f"),
                str(group.density.n if group.density else 0), *([str(group.failed)] if failed else []),
                *(_cell(group.metrics.get(name), ".4f") for name in names),
                "*" if group in front else "",
            ]
            for group in self.groups
        ]  # fmt: skip
        header: tuple[str, ...]
        header = ("method", "settings", "density", "encoder density", "n", *failed, *names, "Pareto")
        tables = [Table("Mean ± standard deviation over seeds", header, rows, words=2)]
        if self.points:
            rows = [
                [
                    point.method, _settings(point.curve), f"{point.density:g}",
                    str(max((spread.n for spread in point.metrics.values()), default=0)),
                    *([str(point.failed)] if failed else []),
                    *(_cell(point.metrics.get(name), ".4f") for name in names),
                ]
                for point in self.points
            ]  # fmt: skip
            header = ("method", "settings", "density", "n", *failed, *names)
            tables.append(
                Table("Interpolated in density, between neighboring runs of a seed", header, rows, words=2)
            )
        return tables

    def markdown(self) -> str:
        """The tables and failures in Markdown."""
        parts = []
        for table in self.tables():
            rule = ["---"] * table.words + ["---:"] * (len(table.header) - table.words)
            lines = [
                list(table.header),
                rule,
                *([cell.replace("|", "\\|") for cell in row] for row in table.rows),
            ]
            parts += [f"{table.title}:", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        if self.failures:
            failed = [f"- `{outcome.run.name}`: {outcome.error}" for outcome in self.failures]
            parts += [f"{len(failed)} runs failed:", "\n".join(failed)]
        return "\n\n".join(parts) + "\n"

    def picture(self) -> Figure:
        """Plot the metric against density: a color per method, a line per curve, error bars of one standard deviation.

        The Pareto front is drawn if all groups have the same problem.
        """
        figure, plots = figures.axes(1, 1, 7.5, 4.5)
        plot = plots[0, 0]
        known = self.plotted
        methods = list(dict.fromkeys(group.method for group in known))
        named: set[str] = set()
        for curve in dict.fromkeys(group.curve for group in known):
            mine = [group for group in known if group.curve == curve]
            method = mine[0].method
            colour = figures.COLOURS[methods.index(method) % len(figures.COLOURS)]
            found = sorted(
                ((group.density, group.metrics[str(self.metric)]) for group in mine if group.density),
                key=lambda pair: pair[0].mean,
            )
            label = None if method in named else method
            named.add(method)
            if method == "dense":
                for _, metric in found:
                    plot.axhline(metric.mean, color="black", linestyle="--", linewidth=1)
                    plot.axhspan(
                        metric.mean - (metric.sd or 0), metric.mean + (metric.sd or 0), color="#00000014"
                    )
                plot.plot([], [], color="black", linestyle="--", linewidth=1, label=label)
                continue
            plot.errorbar(
                [d.mean for d, _ in found], [m.mean for _, m in found],
                xerr=[d.sd or 0 for d, _ in found], yerr=[m.sd or 0 for _, m in found],
                color=colour, marker="o", markersize=5, capsize=3, linewidth=0.8, label=label,
            )  # fmt: skip
        front = [group for group in self.front if group.method != "dense" and group in known]
        if len(front) > 1 and len({group.problem for group in known}) == 1:
            at = [group.density.mean for group in front if group.density]
            values = [group.metrics[str(self.metric)].mean for group in front]
            plot.step(at, values, where="post", color="#888888", linewidth=1, label="Pareto front", zorder=0)
        plot.set_xscale("log")
        ticks: list[float] = []
        for density in sorted(g.density.mean for g in known if g.density and g.method != "dense"):
            # Labels of closer ticks would overlap.
            if not ticks or density > 1.1 * ticks[-1]:
                ticks.append(float(f"{density:.2g}"))
        if ticks and len(ticks) < 12:
            plot.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            plot.minorticks_off()
        plot.set_xlabel("density of the pruned matrices")
        plot.set_ylabel(str(self.metric))
        plot.legend(frameon=False, fontsize=9)
        return figure


def results(outcomes: Sequence[Outcome], at: Sequence[float], metric: str | None) -> Results:
    """Summarize `outcomes`. If no run has `metric`, the first metric of the first finished run is used."""
    found = groups(outcomes)
    names = list(dict.fromkeys(name for group in found for name in group.metrics))
    chosen = metric if metric in names else (names[0] if names else None)
    return Results(list(outcomes), found, interpolate(outcomes, at), chosen)


def _run(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.run.name,
        "identity": outcome.run.identity,
        "command": "aerogel " + shlex.join(outcome.run.command()),
        "swept": outcome.run.swept,
        "seed": outcome.run.config.seed,
        "error": outcome.error,
        "metrics": outcome.metrics,
        "density": outcome.density if outcome.metrics is not None else None,
        "encoder_density": outcome.encoder_density if outcome.metrics is not None else None,
        "seconds": outcome.seconds,
    }


def _settings(swept: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in swept.items() if name != "method")


def _cell(spread: Spread | None, form: str) -> str:
    return "-" if spread is None else format(spread, form)
