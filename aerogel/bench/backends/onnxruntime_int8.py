"""ONNX Runtime on a dense int8 file: what ``quantize_dynamic`` makes of a dense export."""

from __future__ import annotations

from pathlib import Path

from aerogel import runtime
from aerogel.bench.backend import Runner
from aerogel.bench.precision import Precision
from aerogel.bench.third_party import ThirdPartyBackend

__all__ = ["BACKEND", "OnnxRuntimeInt8"]


class OnnxRuntimeInt8(ThirdPartyBackend):
    """Signed weights with one scale per matrix or per output feature, skip + LayerNorm not fused.

    Unsigned weights, statically quantised activations and 8-bit MatMulNBits take longer on every machine tried so far,
    and so does fusing skip connections.
    """

    settings = ("per-tensor", "per-channel")
    package = "onnxruntime"
    install = "onnxruntime"
    computes = Precision(False, "int8")

    def prepare(self, model: Path, setting: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - one file for all shapes
        """Quantise the weights."""
        from aerogel.bench.convert.quantize import dynamic

        return dynamic(model, folder / f"{setting}.onnx", per_channel=setting == "per-channel")

    def open(self, path: Path, threads: int, setting: str, batch: int, seq: int) -> Runner:  # noqa: ARG002 - the file is the setting's
        """Open without the native library."""
        from aerogel.bench.backends._session import SessionRunner

        return SessionRunner(runtime.session(path, threads, library=False))


BACKEND = OnnxRuntimeInt8()
