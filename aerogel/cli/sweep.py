"""`aerogel sweep`: training runs over methods, densities, options and seeds."""

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

HELP = "train over methods, densities, options and seeds; tables and a Pareto plot"

_RESULTS = ("results.json", "results.md", "pareto.png", "pareto.svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments: its own, and every setting of `TrainConfig` as a list."""
    from aerogel.sweep.plan import TABLES, settable

    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="settings, and parts of the grid; flags go before them",
    )
    parser.add_argument(
        "--out",
        type=arguments.output,
        required=True,
        metavar="DIR",
        help="folder of the runs and their results",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--at", type=_floats, metavar="D,...", help="densities to interpolate to")
    parser.add_argument("--metric", metavar="NAME", help="metric to draw (default: the task's first)")
    parser.add_argument(
        "--discard-weights", action="store_true", help="keep the numbers of a run, not its checkpoint"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands of the runs and end")
    settings = parser.add_argument_group(
        "settings", "those of `aerogel train`; several values with commas between are swept"
    )
    for word, field in TABLES.items():
        settings.add_argument(
            f"--{word}", dest=field, action=arguments.Pairs, default={}, metavar="NAME=V,...",
            help=f"an option of the {'task' if 'task' in word else 'method'}; may be given several times",
        )  # fmt: skip
    for name, kind in settable().items():
        if name not in TABLES.values():
            settings.add_argument(
                "--" + name.replace("_", "-"), type=_list(kind), default=argparse.SUPPRESS, metavar="V,..."
            )


def run(args: argparse.Namespace) -> int:
    """Run what is left to run, print the table, write the results; 1 if a run failed, 128 + the signal if stopped."""
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
    if wrong := [density for density in sweep.at if not 0 < density <= 1]:
        raise UsageError(f"--at {wrong[0]:g} is out of range; give densities above 0 and at most 1")
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
    # What a sweep wrote has its runs beside it.
    if not (args.out / "runs").is_dir():
        for name in _RESULTS:
            if (args.out / name).exists():
                raise UsageError(
                    f"{args.out / name} is not of a sweep and would be overwritten; choose another --out"
                )
    with stoppable() as stop:
        with progress() as step:
            step("runs", 0, len(runs))

            def told(outcome: Outcome, done: int) -> None:
                step("runs", done, len(runs))
                if outcome.error:
                    errors.print(f"{outcome.run.name} failed: {outcome.error}", soft_wrap=True)
                elif not outcome.reused:
                    errors.print(
                        f"{outcome.run.name}: density {outcome.density:.4f}, {_metrics(outcome)}",
                        soft_wrap=True,
                    )

            outcomes = execute(
                runs, jobs=args.jobs, discard_weights=args.discard_weights, progress=told, stop=stop
            )
        found = results(outcomes, sweep.at, sweep.metric)
        _write(found, args.out)
    for table in found.tables():
        out.print(rich_table(table.header, table.rows, table.title, table.words))
    if sweep.metric and found.metric and sweep.metric != found.metric:
        errors.print(f"warning: no run has the metric {sweep.metric}; {found.metric} is drawn")
    if stop.signal:
        errors.print(f"aerogel: stopped by {stop.signal.name}; the same command goes on")
        return 128 + stop.signal
    return 1 if found.failures else 0


def _sweep(args: argparse.Namespace) -> Sweep:
    """File and flags as one; a flag goes before the file's settings and before those of its grids."""
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
        at=sweep.at if args.at is None else args.at,
        metric=args.metric or sweep.metric,
    )


def _write(found: Results, out: Path) -> None:
    from aerogel.system.atomic_io import atomic_file

    document, tables, *pictures = (out / name for name in _RESULTS)
    with atomic_file(document) as file:
        file.write_text(
            json.dumps(found.document(), indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8"
        )
    with atomic_file(tables) as file:
        file.write_text(found.markdown(), encoding="utf-8")
    if not found.drawn:
        return
    figure = found.picture()
    for picture in pictures:
        with atomic_file(picture) as file:
            figure.savefig(file, format=picture.suffix[1:], dpi=150)


def _metrics(outcome: Outcome) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in (outcome.metrics or {}).items())


def _floats(text: str) -> tuple[float, ...]:
    return tuple(_list(float)(text))


def _list(kind: Any) -> Callable[[str], list[Any]]:
    """An argument type: values of `kind` with commas between."""

    def parse(text: str) -> list[Any]:
        from aerogel.errors import UsageError
        from aerogel.train.recipe import typed

        made = []
        for word in text.split(","):
            try:
                value: Any = {"true": True, "false": False}[word] if kind is bool else word
                if kind in (int, float):
                    value = kind(word)
                made.append(typed(repr(text), value, kind))
            except (KeyError, ValueError, UsageError) as error:
                said = (
                    str(error)
                    if isinstance(error, UsageError)
                    else f"{word!r} in {text!r} is not of the right kind"
                )
                raise argparse.ArgumentTypeError(said) from error
        return made

    return parse
