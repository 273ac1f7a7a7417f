"""ONNX Runtime on a dense int8 file, which ``quantize_dynamic`` makes from a dense export."""

from __future__ import annotations

from pathlib import Path

from aerogel import runtime
from aerogel.bench.backend import Runner
from aerogel.bench.convert.quantize import dynamic, weight_note
from aerogel.bench.precision import Precision
from aerogel.bench.third_party import ThirdPartyBackend

__all__ = ["BACKEND", "OnnxRuntimeInt8"]


class OnnxRuntimeInt8(ThirdPartyBackend):
    """Signed weights with one scale per matrix or per output feature; skip connections and LayerNorm are not fused.

    Unsigned weights, statically quantised activations, 8-bit MatMulNBits and that fusion were slower on every machine
    that was tried.
    """

    variants = ("per-tensor", "per-channel")
    package = "onnxruntime"
    install = "onnxruntime"
    dense_precision = Precision(False, "int8")

    def prepare(self, model: Path, variant: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - one file for all shapes
        """Quantise the weights."""
        return dynamic(model, folder / f"{variant}.onnx", per_channel=variant == "per-channel")

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:  # noqa: ARG002 - the file is the variant
        """Load without the native library."""
        from aerogel.bench.backends._session import SessionRunner

        runner = SessionRunner(runtime.session(path, threads, library=False))
        note = weight_note(path)
        runner.details = f"onnxruntime-int8{note}" if note else ""
        return runner


BACKEND = OnnxRuntimeInt8()
