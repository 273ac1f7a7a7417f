"""Where the windows of a job run. Results come back in the order of the windows; the rest of a job is the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aerogel.bulk.method import Options
from aerogel.bulk.windows import Window
from aerogel.bulk.work import Loading
from aerogel.bulk.writer import Writer
from aerogel.model import Model
from aerogel.registry import Registry

__all__ = ["ENGINES", "Engine", "Task"]


@dataclass(frozen=True)
class Task:
    """What to run on each window.

    Attributes:
        loading: how another process loads the model.
        method: name of the method.
        options: options of the method.
        writer: encodes the results.
        workers: number of windows to run at once; None for the engine's default.
    """

    loading: Loading
    method: str
    options: Options
    writer: Writer
    workers: int | None = None


class Engine(ABC):
    """One way to run windows. A module of ``engines/`` defines ``ENGINE``, an instance."""

    @abstractmethod
    def run(self, task: Task, model: Model, windows: Iterable[Window]) -> Iterator[tuple[Window, bytes]]:
        """Yield each window with its bytes, in order; at most a few windows are in memory.

        Args:
            task: what to run.
            model: the model, loaded in this process.
            windows: the windows.

        Raises:
            AerogelError: of `windows`, after all windows before it are yielded; or of the work on a window.
        """


ENGINES: Registry[Engine] = Registry("engine", "aerogel.bulk.engines", "ENGINE")
