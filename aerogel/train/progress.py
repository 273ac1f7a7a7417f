"""Progress display of a run: a bar on a terminal; otherwise, on request, a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["LINE_SECONDS", "ProgressDisplay", "show_progress"]

# Time between two plain lines.
LINE_SECONDS = 5.0


class ProgressDisplay(AbstractContextManager["ProgressDisplay"], Protocol):
    """Display that the loop reports its steps to."""

    def update(self, done: int, loss: float, density: float) -> None:
        """Report `done` completed steps, and the loss and density of the last one."""


def show_progress(name: str, done: int, total: int, mode: bool | Literal["lines"]) -> ProgressDisplay:
    """Show the progress of a run on standard error.

    Args:
        name: label of the run.
        done: steps completed at the start.
        total: steps of the run.
        mode: False shows nothing; True shows a bar if standard error is a terminal; "lines" also prints a plain line
            every `LINE_SECONDS` if it is not.
    """
    console = Console(stderr=True)
    if mode and console.is_terminal:
        return _Bar(name, done, total, console)
    return _Lines(name, done, total) if mode == "lines" else _Silence()


class _Silence(ProgressDisplay):
    def update(self, done: int, loss: float, density: float) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Bar(ProgressDisplay):
    def __init__(self, name: str, done: int, total: int, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("density {task.fields[density]:.3f}  loss {task.fields[loss]:.3f}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(name, total=total, completed=done, loss=0.0, density=1.0)

    def update(self, done: int, loss: float, density: float) -> None:
        self._progress.update(self._task, completed=done, loss=loss, density=density)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class _Lines(ProgressDisplay):
    def __init__(self, name: str, done: int, total: int) -> None:
        self._name, self._first, self._total = name, done, total
        self._start = self._last = time.monotonic()

    def update(self, done: int, loss: float, density: float) -> None:
        now = time.monotonic()
        if now - self._last < LINE_SECONDS:
            return
        self._last = now
        remaining = (now - self._start) / (done - self._first) * (self._total - done)
        print(
            f"{self._name}: step {done} of {self._total}, density {density:.3f}, loss {loss:.3f}, "
            f"about {remaining:.0f} s remaining",
            file=sys.stderr,
            flush=True,
        )

    def __exit__(self, *_: object) -> None:
        pass
