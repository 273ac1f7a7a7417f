"""`aerogel sweep`: training runs over every combination of methods, densities, options and seeds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.system import arguments

if TYPE_CHECKING:
    from aerogel.sweep.execute import Outcome
    from aerogel.sweep.plan import Sweep
    from aerogel.sweep.report import Results

HELP = "train every combination of settings; write tables and a Pareto plot"

# Names of types in messages.
_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number"}
_RESULTS = ("results.json", "results.md", "pareto.png", "pareto.svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments: its own, and every setting of `TrainConfig` as a list."""
    from aerogel.sweep.plan import TABLES, settable

    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="TOML file with settings and [[grid]] tables; flags override it",
    )
    parser.add_argument(
        "--out", type=arguments.output, required=True, metavar="DIR", help="output folder of runs and results"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at the same time (default: 1)")
    parser.add_argument(
        "--interpolate-density",
        type=_floats,
        metavar="D,...",
        help="densities at which to interpolate the metrics, comma-separated",
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="metric to plot and to compare by (default: the task's first)"
    )
    parser.add_argument(
        "--discard-weights", action="store_true", help="delete each checkpoint once its results are saved"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands of the runs and exit")
    parser.add_argument_group(
        "settings", "Those of `aerogel train`, in the groups below. Values separated by commas are swept."
    )
    types = settable()
    for group in _training_groups():
        actions = [action for action in group._group_actions if action.dest in types]
        if not actions:
            continue
        settings = parser.add_argument_group(group.title, group.description)
        for action in actions:
            name = action.dest
            if name in TABLES.values():
                settings.add_argument(
                    action.option_strings[0], dest=name, action=arguments.Pairs, default={}, metavar="NAME=V,...",
                    help=action.help,
                )  # fmt: skip
                continue
            settings.add_argument(
                action.option_strings[0], type=_list(types[name]), default=argparse.SUPPRESS,
                metavar=_metavar(action, types[name]), help=action.help,
            )  # fmt: skip


def _training_groups() -> list[Any]:
    """The argument groups of `aerogel train`."""
    from aerogel.cli import train

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser._action_groups


def _metavar(action: argparse.Action, kind: Any) -> str:
    if kind is bool:
        return "{true,false},..."
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
    return f"{choices or action.metavar},..."


def run(args: argparse.Namespace) -> int:
    """Run what has not finished, print tables, write results; 1 if a run failed, 128 + the signal if stopped."""
    import shlex

    from aerogel.cli._signals import stoppable
    from aerogel.errors import UsageError, require
    from aerogel.sweep.execute import execute
    from aerogel.sweep.plan import plan
    from aerogel.sweep.report import results
    from aerogel.system.atomic_io import check_output
    from aerogel.system.overlap import check_outputs_distinct
    from aerogel.system.terminal import console, progress, rich_table

    sweep = _sweep(args)
    if args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: must be at least 1")
    if wrong := [density for density in sweep.interpolate_density if not 0 < density <= 1]:
        raise UsageError(f"--interpolate-density {wrong[0]:g}: must be above 0 and at most 1")
    runs = plan(sweep, args.out)
    for module in ("torch", "transformers", "safetensors"):
        require(module, "train")
    from aerogel.sweep.check import check_runs

    check_runs(runs)
    out, errors = console(), console(stderr=True)
    if args.dry_run:
        for item in runs:
            out.print("aerogel " + shlex.join(item.command()), soft_wrap=True)
        return 0
    require("matplotlib", "inspect")
    for name in _RESULTS:
        check_output(args.out / name)
    check_outputs_distinct(
        {f"--out: {name}": args.out / name for name in _RESULTS}, {"the --config file": args.config}
    )
    # Results of a sweep are next to its runs; without runs, the files are not a sweep's.
    if not (args.out / "runs").is_dir():
        for name in _RESULTS:
            if (args.out / name).exists():
                raise UsageError(
                    f"{args.out / name} was not written by a sweep and would be overwritten; choose another --out"
                )
    with stoppable() as stop:
        with progress() as step:
            step("runs", 0, len(runs))

            def report(outcome: Outcome, done: int) -> None:
                step("runs", done, len(runs))
                if outcome.error:
                    errors.print(f"{outcome.run.name} failed: {outcome.error}", soft_wrap=True)
                elif not outcome.reused:
                    errors.print(
                        f"{outcome.run.name}: density {outcome.density:.4f}, {_metrics(outcome)}",
                        soft_wrap=True,
                    )

            outcomes = execute(
                runs, jobs=args.jobs, discard_weights=args.discard_weights, progress=report, stop=stop
            )
        summary = results(outcomes, sweep.interpolate_density, sweep.metric)
        _write(summary, args.out)
    for table in summary.tables():
        out.print(rich_table(table.header, table.rows, table.title, table.words))
    if sweep.metric and summary.metric and sweep.metric != summary.metric:
        errors.print(f"warning: no run has the metric {sweep.metric}; using {summary.metric}")
    if stop.signal:
        errors.print(f"aerogel: stopped by {stop.signal.name}; run the same command to continue")
        return 128 + stop.signal
    return 1 if summary.failures else 0


def _sweep(args: argparse.Namespace) -> Sweep:
    """The sweep of the file and the flags. Precedence: flags, then `[[grid]]`, then the top level of the file."""
    from dataclasses import replace

    from aerogel.sweep.plan import TABLES, Sweep, read_sweep, settable

    sweep = read_sweep(args.config) if args.config else Sweep({}, [{}])
    given = {
        name: getattr(args, name)
        for name in settable()
        if name not in TABLES.values() and hasattr(args, name)
    }
    for word, field in TABLES.items():
        given |= {f"{word} {name}": value.split(",") for name, value in getattr(args, field).items()}
    return replace(
        sweep,
        grids=[{**grid, **given} for grid in sweep.grids],
        interpolate_density=(
            sweep.interpolate_density if args.interpolate_density is None else args.interpolate_density
        ),
        metric=args.metric or sweep.metric,
    )


def _write(summary: Results, out: Path) -> None:
    from aerogel.system.atomic_io import atomic_file

    document, tables, *pictures = (out / name for name in _RESULTS)
    with atomic_file(document) as file:
        file.write_text(
            json.dumps(summary.document(), indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8"
        )
    with atomic_file(tables) as file:
        file.write_text(summary.markdown(), encoding="utf-8")
    if not summary.plotted:
        return
    figure = summary.picture()
    for picture in pictures:
        with atomic_file(picture) as file:
            figure.savefig(file, format=picture.suffix[1:], dpi=150)


def _metrics(outcome: Outcome) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in (outcome.metrics or {}).items())


def _floats(text: str) -> tuple[float, ...]:
    return tuple(_list(float)(text))


def _list(kind: Any) -> Callable[[str], list[Any]]:
    """An argument type: values of type `kind`, separated by commas."""

    def parse(text: str) -> list[Any]:
        from aerogel.errors import UsageError
        from aerogel.system.toml_config import typed

        values = []
        for word in text.split(","):
            try:
                value: Any = {"true": True, "false": False}[word] if kind is bool else word
                if kind in (int, float):
                    value = kind(word)
                values.append(typed(repr(text), value, kind))
            except (KeyError, ValueError, UsageError) as error:
                message = (
                    str(error)
                    if isinstance(error, UsageError)
                    else f"{word!r} in {text!r}: must be {_EXPECTED[kind]}"
                )
                raise argparse.ArgumentTypeError(message) from error
        return values

    return parse
