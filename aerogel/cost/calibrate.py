"""Making a calibration: all that is measured, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

from aerogel.cost.grid import kinds, measure_dense, measure_packed, samples
from aerogel.cost.machine import this_machine
from aerogel.cost.measure import Stopwatch
from aerogel.cost.model import RESTS, CostModel
from aerogel.cost.non_gemm import measure_rest, points

__all__ = ["calibrate"]


def calibrate(
    threads: int, progress: Callable[[str, int, int], None] = lambda *_: None
) -> tuple[CostModel, str]:
    """Measure this machine with `threads` threads, which takes the better part of a minute.

    Args:
        threads: threads of a session.
        progress: told (stage, steps done, steps in all).

    Returns:
        The calibration, and a warning if other programs kept the machine busy meanwhile, else nothing.

    Raises:
        UsageError: `threads` is no number of threads.
        RuntimeLoadError: the native library is not built.
        MissingExtraError: onnx is not installed.
    """
    host = this_machine(threads)
    watch = Stopwatch(threads)
    total = sum(samples(kind) for kind in (None, *kinds())) + points() * len(RESTS)
    steps = iter(range(1, total + 1))

    def done() -> None:
        progress("calibrate", next(steps), total)

    made = CostModel(
        host=host,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        near={},
        far={},
        dense=measure_dense(watch, host.width, done),
        rest={},
    )
    rest = {kind: measure_rest(watch, kind, made.full if kind == "dense" else None, done) for kind in RESTS}
    near, far = {}, {}
    for kind in kinds():
        near[kind.name], far[kind.name] = measure_packed(watch, kind, host.width, done)
    return replace(made, near=near, far=far, rest=rest), watch.busy()
