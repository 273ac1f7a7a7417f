"""ONNX Runtime with the native library: sparse functions run on Aerogel's kernels."""

from __future__ import annotations

from pathlib import Path

from aerogel import runtime
from aerogel.bench.backend import Backend, Runner
from aerogel.bench.model import OnnxFile
from aerogel.bench.precision import Precision, stored_dtype
from aerogel.errors import RuntimeLoadError
from aerogel.kernels.cpu.library import library_path

__all__ = ["BACKEND", "Aerogel"]


class Aerogel(Backend):
    """Runs models as ``aerogel.session(path, threads)`` does."""

    def refuse(self, model: OnnxFile) -> str | None:
        """Refuse models without sparse functions, and every model if the native library is missing."""
        if not model.sparse:
            return "it has no sparse functions"
        try:
            library_path()
        except RuntimeLoadError as error:
            return str(error)
        return None

    def precision(self, model: OnnxFile) -> Precision:
        """Sparse, in the data type of the file's matrices."""
        return Precision(True, stored_dtype(model))

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:  # noqa: ARG002 - one variant, all shapes
        """Load with the native library."""
        from aerogel.bench.backends._session import SessionRunner

        return SessionRunner(runtime.session(path, threads, library=True))


BACKEND = Aerogel()
