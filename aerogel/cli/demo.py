"""`aerogel demo`: train, prune, export and measure a small model, in under four minutes on two cores."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.system.arguments import output

if TYPE_CHECKING:
    from rich.table import Table

    from aerogel.cli._demo import Result

HELP = "train, prune, export and measure a small BERT, and print a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--out",
        type=output,
        default=Path("out/demo"),
        metavar="DIR",
        help="output folder (default: out/demo)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Run the demo and print its table; 1 if a measured output was wrong."""
    from aerogel.cli._demo import DemoConfig, demo
    from aerogel.errors import require
    from aerogel.system.terminal import console, progress

    require("transformers", "train").utils.logging.disable_progress_bar()
    start = time.monotonic()
    notes = console(stderr=True)
    result = demo(
        args.out,
        DemoConfig(seed=args.seed),
        lambda text: notes.print(f"{time.monotonic() - start:4.0f} s  {text}"),
        lambda: progress(lines=True),
    )
    for item in result.report.skipped:
        if item.model == result.rows[-1].run.model:
            notes.print(f"note: {item.model.name} was not measured with {item.backend}: {item.reason}")
    for warning in result.report.warnings:
        notes.print(f"warning: {warning}")
    out = console()
    out.print(_table(result))
    out.print(f"{time.monotonic() - start:.0f} seconds; plot: {args.out / 'demo.png'}")
    return 0 if all(item.correct for item in result.report.runs) else 1


def _table(result: Result) -> Table:
    from rich.table import Table

    settings = result.report.settings
    table = Table(
        title=f"synthetic task; latency at batch {settings.batch}, sequence {settings.seq}, {settings.threads} thread",
        title_justify="left",
    )
    table.add_column("model")
    table.add_column("runtime")
    for name in ("accuracy", "density", "file MB", "resident MB", "latency ms", "speed-up"):
        table.add_column(name, justify="right")
    for row in result.rows:
        run = row.run
        table.add_row(
            row.model,
            run.backend,
            f"{row.accuracy:.1%}",
            f"{row.density:.1%}",
            f"{run.size / 1e6:.1f}",
            f"{run.memory['after_runs'] / 1e6:.0f}",
            f"{run.latency.median:.2f}",
            f"{run.speedup.median:.2f}" if run.speedup else "wrong output",
        )
    return table
