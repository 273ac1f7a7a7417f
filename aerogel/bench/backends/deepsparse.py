"""DeepSparse on a dense export with zeros, in float32."""

from __future__ import annotations

from pathlib import Path

from aerogel.bench.backends._deepsparse import DeepSparse
from aerogel.bench.precision import Precision

__all__ = ["BACKEND"]


class _Fp32(DeepSparse):
    dense_precision = Precision(True, "fp32")

    def prepare(self, model: Path, variant: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - one file for all variants
        from aerogel.bench.convert.decompose import decompose

        return decompose(model, folder / f"{batch}x{seq}.onnx", batch, seq)


BACKEND = _Fp32()
