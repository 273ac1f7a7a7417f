"""Stock ONNX Runtime: the dense baseline. Sparse functions run as their bodies, folded to dense weights."""

from __future__ import annotations

from pathlib import Path

from aerogel import runtime
from aerogel.bench.backend import Backend, Runner
from aerogel.bench.model import OnnxFile
from aerogel.bench.precision import Precision

__all__ = ["BACKEND", "OnnxRuntime"]


class OnnxRuntime(Backend):
    """All graph optimisations, with and without skip + LayerNorm fusion, which some releases run slower."""

    settings = ("unfused-skip-layernorm", "default")

    def refuse(self, model: OnnxFile) -> str | None:  # noqa: ARG002 - it takes any model
        """Never refuses."""
        return None

    def kind(self, model: OnnxFile) -> Precision:  # noqa: ARG002 - whatever a file stores, its bodies compute this
        """Dense float32: bodies of sparse functions rebuild dense matrices, from rounded values too."""
        return Precision(False, "fp32")

    def open(self, path: Path, threads: int, setting: str, batch: int, seq: int) -> Runner:  # noqa: ARG002 - all shapes
        """Open without the native library."""
        from aerogel.bench.backends._session import SessionRunner

        disabled = () if setting == "default" else runtime.SLOWER_WHEN_FUSED
        return SessionRunner(runtime.session(path, threads, library=False, disabled_optimizers=disabled))


BACKEND = OnnxRuntime()
