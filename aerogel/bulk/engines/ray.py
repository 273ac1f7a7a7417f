"""Run windows in actors of a Ray cluster, the embedded one of this machine unless RAY_ADDRESS names another.

Actors instead of Ray Data: results must come back in the order of the rows, a few windows at a time, so that resuming
and the bytes of the output are those of the local engine.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from aerogel.bulk.engine import Engine, Task
from aerogel.bulk.windows import Window
from aerogel.bulk.work import Work
from aerogel.errors import AerogelError, RuntimeLoadError, require
from aerogel.model import Model

__all__ = ["ENGINE"]

# Windows of an actor that are submitted: one that runs and one that waits.
_AHEAD = 2


class Actor:
    """A process of the cluster with its own copy of the model."""

    def __init__(self, task: Task) -> None:
        self._work = Work(task.loading.load(), task.method, task.options, task.writer)

    def run(self, window: Window) -> bytes:
        """The window's bytes."""
        return self._work(window)


class Ray(Engine):
    """Actors with `threads` processors each; by default as many as the cluster has processors for.

    The model's folder must have the same path on every node. An actor that dies is started again, and its windows are
    repeated.
    """

    def run(self, task: Task, model: Model, windows: Iterable[Window]) -> Iterator[tuple[Window, bytes]]:  # noqa: ARG002
        """See `Engine.run`."""
        ray = require("ray", "ray")
        started = not ray.is_initialized()
        if started:
            _start(ray)
        try:
            yield from _ordered(ray, _actors(ray, task), windows)
        finally:
            if started:
                ray.shutdown()


def _start(ray: Any) -> None:
    # Ray reports its usage over the network unless this is set.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RuntimeLoadError(f"--engine ray: no cluster ({error}); check RAY_ADDRESS") from error


def _actors(ray: Any, task: Task) -> list[Any]:
    threads = task.loading.threads or 1
    count = task.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
    remote = ray.remote(num_cpus=threads, max_restarts=-1, max_task_retries=-1)(Actor)
    return [remote.remote(task) for _ in range(count)]


def _ordered(ray: Any, actors: list[Any], windows: Iterable[Window]) -> Iterator[tuple[Window, bytes]]:
    waiting: deque[tuple[Window, Any]] = deque()
    failure: AerogelError | None = None
    source = iter(windows)
    index = 0
    while True:
        try:
            window = next(source)
        except StopIteration:
            break
        except AerogelError as error:
            failure = error
            break
        waiting.append((window, actors[index % len(actors)].run.remote(window)))
        index += 1
        if len(waiting) >= _AHEAD * len(actors):
            yield _result(ray, *waiting.popleft())
    while waiting:
        yield _result(ray, *waiting.popleft())
    if failure is not None:
        raise failure


def _result(ray: Any, window: Window, reference: Any) -> tuple[Window, bytes]:
    try:
        return window, ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, AerogelError):
            raise error.cause from error
        raise
    except ray.exceptions.RayActorError as error:
        reason = str(error).partition("\n")[0]
        raise RuntimeLoadError(
            f"--engine ray: a worker cannot start ({reason}); the model must have the same path on every node"
        ) from error


ENGINE = Ray()
