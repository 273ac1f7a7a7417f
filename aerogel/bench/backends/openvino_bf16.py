"""OpenVINO on a dense export, in bfloat16, its default on processors that support it."""

from __future__ import annotations

from pathlib import Path

from aerogel.bench.backend import Runner
from aerogel.bench.backends._openvino import OpenVino
from aerogel.bench.precision import Precision

__all__ = ["BACKEND"]


class _Bf16(OpenVino):
    dense_precision = Precision(False, "bf16")

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:  # noqa: ARG002 - one variant
        return self.compile(path, threads, "bf16", batch, seq)


BACKEND = _Bf16()
