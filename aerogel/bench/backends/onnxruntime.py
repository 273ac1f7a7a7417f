"""Stock ONNX Runtime, the dense baseline. It inlines sparse functions, which fold to dense weights."""

from __future__ import annotations

from pathlib import Path

from aerogel import runtime
from aerogel.bench.backend import Backend, Runner
from aerogel.bench.model import OnnxFile
from aerogel.bench.precision import Precision

__all__ = ["BACKEND", "OnnxRuntime"]


class OnnxRuntime(Backend):
    """All graph optimisations, with and without the fusion of skip connections and LayerNorm.

    That fusion is slower than what it replaces in some releases.
    """

    variants = ("unfused-skip-layernorm", "default")

    def refuse(self, model: OnnxFile) -> str | None:  # noqa: ARG002 - it runs any model
        """Refuse nothing."""
        return None

    def precision(self, model: OnnxFile) -> Precision:  # noqa: ARG002 - the same for every file
        """Dense float32, as the bodies of sparse functions rebuild dense float32 matrices from any stored type."""
        return Precision(False, "fp32")

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:  # noqa: ARG002 - all shapes
        """Load without the native library."""
        from aerogel.bench.backends._session import SessionRunner

        disabled = () if variant == "default" else runtime.SLOWER_WHEN_FUSED
        return SessionRunner(runtime.session(path, threads, library=False, disabled_optimizers=disabled))


BACKEND = OnnxRuntime()
