"""Run every measurement of a cost model, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

from aerogel.cost.grid import measure_dense, measure_packed, packed_kernels, sample_count
from aerogel.cost.machine import this_machine
from aerogel.cost.measure import Stopwatch
from aerogel.cost.model import NON_GEMM_VARIANTS, CostModel
from aerogel.cost.non_gemm import measure_non_gemm, non_gemm_sample_count

__all__ = ["calibrate"]


def calibrate(
    threads: int, progress: Callable[[str, int, int], None] = lambda *_: None
) -> tuple[CostModel, str]:
    """Measure this machine with `threads` threads; takes up to a minute.

    Args:
        threads: threads of a session.
        progress: called with (stage, steps done, steps in total).

    Returns:
        The cost model, and a warning if other programs kept the machine busy, else an empty string.

    Raises:
        UsageError: `threads` is not a valid number of threads.
        RuntimeLoadError: the native library is not built.
        MissingExtraError: onnx is not installed.
    """
    machine = this_machine(threads)
    watch = Stopwatch(threads)
    kernels = packed_kernels()
    total = sum(map(sample_count, (None, *kernels))) + non_gemm_sample_count() * len(NON_GEMM_VARIANTS)
    steps = iter(range(1, total + 1))

    def advance() -> None:
        progress("calibrate", next(steps), total)

    partial = CostModel(
        machine=machine,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        cache_resident={},
        dram_resident={},
        dense=measure_dense(watch, machine.vector_width, advance),
        non_gemm={},
    )
    non_gemm = {
        variant: measure_non_gemm(
            watch, variant, partial.dense_seconds if variant == "dense" else None, advance
        )
        for variant in NON_GEMM_VARIANTS
    }
    cache_resident, dram_resident = {}, {}
    for kernel in kernels:
        cache_resident[kernel.name], dram_resident[kernel.name] = measure_packed(
            watch, kernel, machine.vector_width, advance
        )
    measured = replace(partial, cache_resident=cache_resident, dram_resident=dram_resident, non_gemm=non_gemm)
    return measured, watch.busy_warning()
