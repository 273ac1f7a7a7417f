"""OpenVINO on a dense int8 file: linear layers quantised statically, the rest in float32 or bfloat16."""

from __future__ import annotations

from pathlib import Path

from aerogel.bench.backend import Runner
from aerogel.bench.backends._openvino import OpenVino
from aerogel.bench.precision import Precision

__all__ = ["BACKEND"]


class _Int8(OpenVino):
    settings = ("f32", "bf16")
    computes = Precision(False, "int8")

    def prepare(self, model: Path, setting: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - one file for all
        from aerogel.bench.convert.quantize import static

        return static(model, folder / "qdq.onnx", per_channel=True)

    def open(self, path: Path, threads: int, setting: str, batch: int, seq: int) -> Runner:
        return self.compile(path, threads, setting, batch, seq)


BACKEND = _Int8()
