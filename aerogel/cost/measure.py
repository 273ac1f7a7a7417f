"""Time small ONNX models with cache-resident and with DRAM-resident weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from aerogel import runtime
from aerogel.errors import require

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["CACHE_BYTES", "DRAM_BYTES", "Stopwatch", "TimedModel"]

CACHE_BYTES = 4_000_000
"""Bytes of weights of a cache-resident measurement: more than a core's own cache, less than most shared caches."""

DRAM_BYTES = 64_000_000
"""Bytes written before each DRAM-resident run to evict the weights: more than most shared caches."""

_MIN_RUNS, _MAX_RUNS = 3, 8
_ENOUGH_SECONDS = 0.015
_IDLE_FRACTION = 0.95


class Stopwatch:
    """Times models on a fixed number of threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._evictor = np.zeros(DRAM_BYTES // 4, np.float32)
        # With one thread, that thread's CPU time: it excludes the time that other programs take.
        self._clock = time.thread_time if threads == 1 else time.perf_counter
        self._wall = self._used = 0.0

    def load(self, model: onnx.ModelProto, *, library: bool) -> TimedModel:
        """Load a model, with the native library's kernels if `library`.

        Raises:
            RuntimeLoadError: ONNX Runtime cannot load the model.
        """
        onnx = require("onnx", "export")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            return TimedModel(self, runtime.session(path, self.threads, library=library))

    def best_seconds(self, run: Callable[[], object], *, cached: bool) -> float:
        """Shortest time of several runs, in seconds.

        Args:
            run: what to time.
            cached: keep the caches as earlier runs left them; else evict their contents before each run.
        """
        run()
        times: list[float] = []
        begin = time.perf_counter()
        for number in range(_MAX_RUNS):
            if not cached:
                self._evictor.fill(number)
            wall, used, start = time.perf_counter(), time.process_time(), self._clock()
            run()
            times.append(self._clock() - start)
            self._used += time.process_time() - used
            self._wall += time.perf_counter() - wall
            if len(times) >= _MIN_RUNS and time.perf_counter() - begin > _ENOUGH_SECONDS:
                break
        return min(times)

    def busy_warning(self) -> str:
        """A warning if other programs took more than 5% of a core's time, else an empty string."""
        fraction = self._used / self._wall if self._wall else 1.0
        if fraction >= _IDLE_FRACTION:
            return ""
        return (
            f"other programs took {1 - min(fraction, 1):.0%} of the time and displaced the caches during the "
            "measurement; calibrate again on an idle machine"
        )


class TimedModel:
    """A loaded model that can be timed."""

    def __init__(self, watch: Stopwatch, session: onnxruntime.InferenceSession) -> None:
        self._watch = watch
        self._session = session

    def seconds(self, inputs: Mapping[str, np.ndarray], *, cached: bool = False) -> float:
        """Seconds of one run on inputs ``[batch, tokens, ...]`` by name; see `Stopwatch.best_seconds` for `cached`.

        Outputs of equal shape share one buffer, as activations of consecutive layers do in a real model.
        """
        import onnxruntime

        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        leading = next(iter(inputs.values())).shape[:2]
        buffers: dict[tuple[int, ...], onnxruntime.OrtValue] = {}
        for output in self._session.get_outputs():
            shape = (*leading, *output.shape[2:])
            if shape not in buffers:
                buffers[shape] = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
            binding.bind_ortvalue_output(output.name, buffers[shape])
        return self._watch.best_seconds(lambda: self._session.run_with_iobinding(binding), cached=cached)
