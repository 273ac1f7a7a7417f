"""Stock ONNX Runtime: the dense baseline. Sparse functions run as their bodies, folded to dense weights."""

from __future__ import annotations

from pathlib import Path

from aerogel import runtime
from aerogel.bench.candidate import Candidate, Runner
from aerogel.bench.model import OnnxFile
from aerogel.errors import RuntimeLoadError

__all__ = ["CANDIDATE", "OnnxRuntime"]


class OnnxRuntime(Candidate):
    """All graph optimisations, with and without skip + LayerNorm fusion, which some releases run slower."""

    settings = ("unfused-skip-layernorm", "default")

    def refuse(self, model: OnnxFile) -> str | None:  # noqa: ARG002 - it takes any model
        """Never refuses."""
        return None

    def open(self, path: Path, threads: int, setting: str) -> Runner:
        """Open without the native library."""
        import onnxruntime

        from aerogel.bench.candidates._session import SessionRunner

        if setting != "default":
            return SessionRunner(runtime.session(path, threads, library=False))
        try:
            session = onnxruntime.InferenceSession(
                str(path), runtime.session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own types, none of them public
            raise RuntimeLoadError(f"{path} cannot be loaded: {error}") from error
        return SessionRunner(session)


CANDIDATE = OnnxRuntime()
