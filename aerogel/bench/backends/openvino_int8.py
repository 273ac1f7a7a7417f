"""OpenVINO on a dense int8 file: statically quantised linear layers, the rest in float32 or bfloat16."""

from __future__ import annotations

from pathlib import Path

from aerogel.bench.backend import Runner
from aerogel.bench.backends._openvino import OpenVino
from aerogel.bench.convert.quantize import static, weight_note
from aerogel.bench.precision import Precision

__all__ = ["BACKEND"]


class _Int8(OpenVino):
    variants = ("f32", "bf16")
    dense_precision = Precision(False, "int8")

    def prepare(self, model: Path, variant: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - one file for all variants and shapes
        return static(model, folder / "qdq.onnx", per_channel=True)

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:
        runner = self.compile(path, threads, variant, batch, seq)
        runner.details += weight_note(path)
        return runner


BACKEND = _Int8()
