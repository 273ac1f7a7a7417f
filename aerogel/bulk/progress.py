"""Progress of a job on standard error: rows, rate and time remaining."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from aerogel.bulk.run import Report
from aerogel.system.terminal import console

__all__ = ["reporting"]

# Seconds between two lines without a terminal.
_LINE_SECONDS = 5.0


@contextmanager
def reporting() -> Iterator[Report]:
    """Yield a function for `run_bulk` that draws a bar on a terminal, and prints a line every few seconds elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    output = console(stderr=True)
    columns = (
        TextColumn("{task.fields[rows]:,} rows", markup=False),
        BarColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    first: tuple[float, int] | None = None
    last = time.monotonic()
    with Progress(*columns, console=output, disable=not output.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None, rows=0, rate="")

        def report(rows: int, done: float | None) -> None:
            nonlocal first, last
            now = time.monotonic()
            if first is None:
                first = now, rows
            rate = (rows - first[1]) / max(now - first[0], 1e-9)
            text = f"{rate:,.0f} rows/s" if rows > first[1] else ""
            if done is None:
                bar.update(task, rows=rows, rate=text)
            else:
                bar.update(task, rows=rows, rate=text, completed=done, total=1.0)
            if not output.is_terminal and now - last >= _LINE_SECONDS:
                last = now
                share = "" if done is None else f", {done:.0%}"
                output.print(f"{rows:,} rows{share}, {text}")

        yield report
