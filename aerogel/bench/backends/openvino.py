"""OpenVINO on a dense export, in float32."""

from __future__ import annotations

from pathlib import Path

from aerogel.bench.backend import Runner
from aerogel.bench.backends._openvino import OpenVino
from aerogel.bench.precision import Precision

__all__ = ["BACKEND"]


class _Fp32(OpenVino):
    dense_precision = Precision(False, "fp32")

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:  # noqa: ARG002 - one variant
        return self.compile(path, threads, "f32", batch, seq)


BACKEND = _Fp32()
