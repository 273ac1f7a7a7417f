"""ONNX Runtime with the native library: sparse functions run as this project's kernels."""

from __future__ import annotations

from pathlib import Path

from aerogel import runtime
from aerogel.bench.backend import Backend, Runner
from aerogel.bench.model import OnnxFile
from aerogel.bench.precision import Precision, stored_precision
from aerogel.errors import RuntimeLoadError
from aerogel.kernels.cpu.library import library_path

__all__ = ["BACKEND", "Aerogel"]


class Aerogel(Backend):
    """What ``aerogel.session(path, threads)`` gives to a user."""

    def refuse(self, model: OnnxFile) -> str | None:
        """Refuses models without sparse functions, and everything where the library is missing."""
        if not model.sparse:
            return "it has no sparse function to run there"
        try:
            library_path()
        except RuntimeLoadError as error:
            return str(error)
        return None

    def kind(self, model: OnnxFile) -> Precision:
        """Sparse, in the precision that the file stores its matrices in."""
        return Precision(True, stored_precision(model))

    def open(self, path: Path, threads: int, setting: str, batch: int, seq: int) -> Runner:  # noqa: ARG002 - one setting, all shapes
        """Open with the native library."""
        from aerogel.bench.backends._session import SessionRunner

        return SessionRunner(runtime.session(path, threads, library=True))


BACKEND = Aerogel()
