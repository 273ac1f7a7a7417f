"""DeepSparse on a dense export with zeros and statically quantised linear layers."""

from __future__ import annotations

from pathlib import Path

from aerogel.bench.backend import Runner
from aerogel.bench.backends._deepsparse import DeepSparse
from aerogel.bench.convert.quantize import static, weight_note
from aerogel.bench.precision import Precision

__all__ = ["BACKEND"]


class _Int8(DeepSparse):
    dense_precision = Precision(True, "int8")

    def prepare(self, model: Path, variant: str, folder: Path, batch: int, seq: int) -> Path:  # noqa: ARG002 - one file for all variants
        from aerogel.bench.convert.decompose import decompose
        from aerogel.bench.convert.qdq_to_int import qdq_to_int

        # DeepSparse runs one scale per matrix faster than one per output feature.
        quantised = static(model, folder / "qdq.onnx", per_channel=False)
        # The folder has the name of the quantised file, as all shapes share the weights in it.
        return decompose(quantised, folder / quantised.stem / f"{batch}x{seq}.onnx", batch, seq, qdq_to_int)

    def open(self, path: Path, threads: int, variant: str, batch: int, seq: int) -> Runner:
        runner = super().open(path, threads, variant, batch, seq)
        runner.details += weight_note(path)
        return runner


BACKEND = _Int8()
