"""Printing: rich on a terminal, plain text of a fixed width elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "progress", "rich_table"]

# Files and pipes have no width; without one, rich would wrap tables at 80 columns.
_WIDTH = 120
# Seconds between two lines of progress without a terminal.
_LINE_SECONDS = 5.0


def console(*, stderr: bool = False) -> Console:
    """A console without highlighting, markup or emoji codes, so that brackets and colons are printed literally."""
    from rich.console import Console
    from rich.text import Text

    from aerogel.system.printable import escaped

    class Escaping(Console):
        """A console that escapes terminal control characters."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escaped(text), **options)

    # File names and environment variables may look like rich's markup or emoji codes.
    result = Escaping(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False)
    if not result.is_terminal:
        result.width = _WIDTH
    return result


@contextmanager
def progress(*, lines: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function of (stage, steps done, total steps) that updates one progress bar per stage.

    The bars are drawn on standard error if it is a terminal, and removed when the block ends. With `lines`, other
    outputs get a plain line every few seconds.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from aerogel.system.printable import escaped

    output = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    tasks: dict[str, TaskID] = {}
    last = time.monotonic()
    with Progress(*columns, console=output, disable=not output.is_terminal, transient=True) as bars:

        def step(stage: str, done: int, total: int) -> None:
            nonlocal last
            if lines and not output.is_terminal and time.monotonic() - last >= _LINE_SECONDS:
                last = time.monotonic()
                output.print(f"{stage}: {done} of {total}")
            if stage not in tasks:
                tasks[stage] = bars.add_task(escaped(stage))
            bars.update(tasks[stage], completed=done, total=total)

        yield step


def rich_table(header: Iterable[str], rows: Iterable[Iterable[str]], title: str, words: int) -> Table:
    """A table whose first `words` columns are left-aligned words and whose other columns are right-aligned numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number < words else "right")
    for row in rows:
        table.add_row(*row)
    return table
