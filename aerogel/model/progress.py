"""Report progress over a list of texts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from aerogel.errors import UsageError

__all__ = ["Progress", "reporting"]

Progress = bool | Callable[[int, int], None]
"""True draws a progress bar on standard error; a function is called with (texts done, total)."""


@contextlib.contextmanager
def reporting(progress: Progress, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of texts done.

    Raises:
        UsageError: `progress` is neither True, False nor callable.
    """
    if progress is False or progress is None:
        yield lambda _: None
    elif callable(progress):
        report: Callable[[int, int], None] = progress
        yield lambda done: report(done, total)
    elif progress is True:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        with Bar(
            BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
        ) as bar:
            task = bar.add_task("texts", total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        raise UsageError(f"progress must be True, False or a function, not {type(progress).__name__}")
