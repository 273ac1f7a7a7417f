"""A model in service: loaded, measured, and with its scheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import lru_cache
from typing import Any

import numpy as np

import aerogel.model
from aerogel.kernels.cpu import native
from aerogel.kernels.cpu.library import find_library
from aerogel.model import Model
from aerogel.model.batch import Call
from aerogel.serve.engine import Engine, Layout
from aerogel.serve.refusals import Overloaded
from aerogel.serve.scheduler import Observer, Scheduler
from aerogel.serve.settings import Settings
from aerogel.serve.tuning import candidates, choose
from aerogel.system.cores import cores

__all__ = ["Loaded", "Served", "open_model"]

# Texts with at most this number of characters are tokenized on the loop's thread, which is faster than asking another.
_INLINE = 1500


@lru_cache(1)
def instruction_set() -> str:
    """Name of the instruction set that the kernels use; "" without the native library."""
    if find_library() is None:
        return ""
    return str(native.selected())


class Loaded:
    """A model that is loaded and measured, but not in service.

    Attributes:
        model: the model.
        layout: how it runs.
        seconds: time to load and measure it.
    """

    def __init__(self, model: Model, layout: Layout, seconds: float) -> None:
        self.model, self.layout, self.seconds = model, layout, seconds


def open_model(path: Any, settings: Settings) -> Loaded:
    """Load a model and measure how to run it. Takes seconds; call it on another thread than the loop's.

    Raises:
        AerogelError: the model cannot be loaded.
    """
    began = time.perf_counter()
    own = max(1, cores() // settings.workers)
    if settings.sessions or settings.threads:
        threads = settings.threads or max(1, own // (settings.sessions or 1))
        pairs = [(settings.sessions or max(1, own // threads), threads)]
    else:
        pairs = candidates(own)
    model, layout = choose(
        lambda threads: aerogel.model.load(path, threads=threads, max_length=settings.max_length),
        pairs,
        batch_tokens=settings.batch_tokens,
        batch_seconds=settings.batch_ms / 1000,
    )
    return Loaded(model, layout, time.perf_counter() - began)


class Served:
    """A model in service.

    Args:
        name: its name in requests.
        loaded: the model.
        settings: the server's settings.
        tokenizing: threads for long texts.
        observer: receives the scheduler's events.
    """

    def __init__(
        self, name: str, loaded: Loaded, settings: Settings, tokenizing: Executor, observer: Observer
    ) -> None:
        self.name, self.model, self.layout = name, loaded.model, loaded.layout
        self.created = int(time.time())
        self._engine = Engine(loaded.model, loaded.layout)
        self.scheduler = Scheduler(
            self._engine,
            queue_tokens=settings.queue_tokens,
            cache_bytes=settings.cache_mb * 1_000_000,
            observer=observer,
        )
        self._tokenizing = tokenizing
        self._queue_tokens = settings.queue_tokens
        self._array_tokens = 0

    async def prepare(self, characters: int, make: Callable[[], Any]) -> Any:
        """Call a function that tokenizes texts of this length in all, on the loop's thread if they are short."""
        if characters <= _INLINE:
            return make()
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, make)

    async def call(self, characters: int, method: str, *args: Any, **options: Any) -> Call:
        """Prepare a call of a method of the model; see `Model.prepare`."""
        call: Call = await self.prepare(characters, lambda: self.model.prepare(method, *args, **options))
        return call

    async def run_arrays(
        self, feed: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Mapping[str, np.ndarray]:
        """Run arrays by input name; returns outputs by name.

        Raises:
            Overloaded: the queue is full; arrays count as much as the texts that wait.
            UsageError: the model cannot run arrays of these shapes.
        """
        tokens = max((array.size for array in feed.values()), default=0)
        waiting = self.scheduler.queued + self._array_tokens
        if waiting >= self._queue_tokens:
            raise Overloaded(
                f"the queue is full: {waiting} of {self._queue_tokens} tokens; send the request later",
                waiting / (self.layout.rate * self.layout.workers),
            )
        self._array_tokens += tokens
        try:
            found = await self._engine.submit_arrays(feed, outputs)
        finally:
            self._array_tokens -= tokens
        return dict(zip(outputs, found, strict=True))

    def labels(self) -> tuple[str, ...]:
        """Values of the labels of the metric ``aerogel_model``."""
        model, layout = self.model, self.layout
        density = "" if model.density is None else f"{model.density:g}"
        return (
            self.name, model.head.kind, density, str(model.fused).lower(), instruction_set(), str(layout.workers),
            str(layout.threads), str(layout.batch_tokens),
        )  # fmt: skip

    async def close(self) -> None:
        """Finish what was admitted, then release the model."""
        await self.scheduler.close()
        self._engine.close()
        self.model.close()
