"""DeepSparse on a dense export with zeros whose linear layers are quantised statically."""

from __future__ import annotations

from pathlib import Path

from aerogel.bench.backends._deepsparse import DeepSparse
from aerogel.bench.precision import Precision

__all__ = ["BACKEND"]


class _Int8(DeepSparse):
    computes = Precision(True, "int8")

    def prepare(self, model: Path, setting: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - a file for all settings
        from aerogel.bench.convert.decompose import fixed
        from aerogel.bench.convert.qdq_to_int import integers
        from aerogel.bench.convert.quantize import static

        # It runs one scale per matrix faster than one per output feature.
        quantised = static(model, folder / "qdq.onnx", per_channel=False)
        return fixed(quantised, folder / f"{batch}x{seq}.onnx", batch, seq, integers)


BACKEND = _Int8()
