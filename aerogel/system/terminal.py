"""What verbs print with: rich on a terminal, plain text of a fixed width elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "progress", "rich_table"]

# A file or a pipe has no width; tables written there should not be folded to a terminal's 80 columns.
_WIDTH = 120
# Between two lines of progress where there is no terminal.
_LINE_SECONDS = 5.0


def console(*, stderr: bool = False) -> Console:
    """A console that colours nothing but what it is told to, and shows text, brackets and colons too, as it is."""
    from rich.console import Console
    from rich.text import Text

    from aerogel.system.printable import escaped

    class Escaping(Console):
        """Texts are shown with what would control the terminal escaped."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escaped(text), **options)

    # File names and environment variables may hold what rich would take as markup or as an emoji's name.
    made = Escaping(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDTH
    return made


@contextmanager
def progress(*, lines: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function of (stage, steps done, steps in all) that moves one bar per stage.

    The bars are on standard error, and only where that is a terminal; they go when the block ends. With `lines`, what
    is no terminal gets a plain line every few seconds.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from aerogel.system.printable import escaped

    shown = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    tasks: dict[str, TaskID] = {}
    last = time.monotonic()
    with Progress(*columns, console=shown, disable=not shown.is_terminal, transient=True) as bars:

        def step(stage: str, done: int, total: int) -> None:
            nonlocal last
            if lines and not shown.is_terminal and time.monotonic() - last >= _LINE_SECONDS:
                last = time.monotonic()
                shown.print(f"{stage}: {done} of {total}")
            if stage not in tasks:
                tasks[stage] = bars.add_task(escaped(stage))
            bars.update(tasks[stage], completed=done, total=total)

        yield step


def rich_table(header: Iterable[str], rows: Iterable[Iterable[str]], title: str, words: int) -> Table:
    """A table whose first `words` columns are words, and the others numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for number, name in enumerate(header):
        made.add_column(name, justify="left" if number < words else "right")
    for row in rows:
        made.add_row(*row)
    return made
