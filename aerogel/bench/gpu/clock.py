"""Time calls on a device: medians of events around many calls, with cold L2 caches."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Timing", "copies_for", "timed"]

_ROUNDS = 20
_ROUND_SECONDS = 0.02
_MAX_COPIES = 64


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: median and quartiles over rounds; `graph` is True if a CUDA graph was replayed."""

    ms: float
    low: float
    high: float
    graph: bool


def copies_for(size: int, device: torch.device) -> int:
    """Return how many sets of operands of `size` bytes together are twice as large as the L2 cache."""
    if device.type != "cuda":
        return 1
    cache = int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)) or 64 << 20
    return min(_MAX_COPIES, max(1, math.ceil(2 * cache / max(1, size))))


def timed(calls: Sequence[Callable[[], object]], device: torch.device, graph: bool = True) -> Timing:
    """Time `calls`, which compute the same on different operands, one after the other.

    Args:
        calls: at least one function.
        device: device that they run on.
        graph: record them in a CUDA graph if possible, so that launches take no time.
    """
    for call in calls:
        call()
    if device.type != "cuda":
        return _summary([_wall(calls) for _ in range(3)], len(calls), False)
    torch.cuda.synchronize(device)
    replay = _record(calls, device) if graph else None
    run = replay or (lambda: [call() for call in calls])
    once = _events(run, 1)
    iterations = max(1, min(1000, int(_ROUND_SECONDS * 1e3 / max(once, 1e-3))))
    rounds = [_events(run, iterations) / iterations for _ in range(_ROUNDS)]
    return _summary(rounds, len(calls), replay is not None)


def _record(calls: Sequence[Callable[[], object]], device: torch.device) -> Callable[[], object] | None:
    """Record all calls in one CUDA graph and return its replay; None if a call cannot be recorded."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    kept = []
    try:
        with torch.cuda.graph(graph):
            kept += [call() for call in calls]
    except RuntimeError:
        with contextlib.suppress(RuntimeError):
            torch.cuda.synchronize(device)
        return None

    def replay() -> None:
        # The outputs must stay referenced, as the graph writes to their memory.
        assert kept
        graph.replay()

    return replay


def _events(run: Callable[[], object], iterations: int) -> float:
    """Return the total milliseconds of `iterations` runs."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(iterations):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def _wall(calls: Sequence[Callable[[], object]]) -> float:
    start = time.perf_counter()
    for call in calls:
        call()
    return (time.perf_counter() - start) * 1e3


def _summary(rounds: Sequence[float], calls: int, graph: bool) -> Timing:
    low, median, high = (float(value) / calls for value in np.percentile(rounds, (25, 50, 75)))
    return Timing(median, low, high, graph)
