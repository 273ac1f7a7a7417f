"""Timing small ONNX models, with their weights in the caches and out of them."""

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

__all__ = ["FAR_BYTES", "NEAR_BYTES", "Stopwatch", "Timed"]

NEAR_BYTES = 4_000_000
"""Weights that are taken in turn: more than a core's own cache, less than what the cores of most machines share."""

FAR_BYTES = 64_000_000
"""Written before every run that shall find its weights in memory: more than those shared caches."""

_LEAST_PASSES, _MOST_PASSES = 3, 8
_ENOUGH_SECONDS = 0.015
_IDLE_SHARE = 0.95


class Stopwatch:
    """Times models on a number of threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._other = np.zeros(FAR_BYTES // 4, np.float32)
        # With one thread the time of that thread: what other programs take from it meanwhile is not counted.
        self._clock = time.thread_time if threads == 1 else time.perf_counter
        self._wall = self._used = 0.0

    def open(self, model: onnx.ModelProto, *, library: bool) -> Timed:
        """Load a model, with the kernels of the native library if `library`.

        Raises:
            RuntimeLoadError: it cannot be loaded.
        """
        onnx = require("onnx", "export")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            return Timed(self, runtime.session(path, self.threads, library=library))

    def best(self, run: Callable[[], object], *, near: bool) -> float:
        """Least seconds of several runs.

        Args:
            run: what to time.
            near: leave in the caches what earlier runs brought there; else their contents are replaced every time.
        """
        run()
        times: list[float] = []
        begin = time.perf_counter()
        for number in range(_MOST_PASSES):
            if not near:
                self._other.fill(number)
            wall, used, start = time.perf_counter(), time.process_time(), self._clock()
            run()
            times.append(self._clock() - start)
            self._used += time.process_time() - used
            self._wall += time.perf_counter() - wall
            if len(times) >= _LEAST_PASSES and time.perf_counter() - begin > _ENOUGH_SECONDS:
                break
        return min(times)

    def busy(self) -> str:
        """A warning if other programs took part of the time of a core, else nothing."""
        share = self._used / self._wall if self._wall else 1.0
        if share >= _IDLE_SHARE:
            return ""
        return (
            f"other programs took {1 - min(share, 1):.0%} of the time while this was measured, and pushed it out of "
            "the caches; calibrate again on an idle machine"
        )


class Timed:
    """A loaded model."""

    def __init__(self, watch: Stopwatch, session: onnxruntime.InferenceSession) -> None:
        self._watch = watch
        self._session = session

    def seconds(self, inputs: Mapping[str, np.ndarray], *, near: bool = False) -> float:
        """Time it on inputs ``[batch, tokens, ...]`` by name; `near` as `Stopwatch.best` has it.

        Outputs of one shape are written to the same memory, as activations are in a model that goes from layer to
        layer.
        """
        import onnxruntime

        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        leading = next(iter(inputs.values())).shape[:2]
        shared: dict[tuple[int, ...], onnxruntime.OrtValue] = {}
        for output in self._session.get_outputs():
            shape = (*leading, *output.shape[2:])
            if shape not in shared:
                shared[shape] = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
            binding.bind_ortvalue_output(output.name, shared[shape])
        return self._watch.best(lambda: self._session.run_with_iobinding(binding), near=near)
