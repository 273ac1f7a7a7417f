"""What a row of a table computes: dense or sparse, and in which arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from aerogel.bench.model import OnnxFile

__all__ = ["TOLERANCES", "Precision", "stored_precision"]

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-3, "bf16": 1e-2, "int8": 1.2e-1}
"""Largest difference of an output from the reference's, relative to that output's largest magnitude.

Two correct float32 orders of summation differ by about 1e-6 after twelve layers. The largest differences in
docs/results are 6e-2 in int8 and 5e-3 in bf16, both of untrained encoders; the bounds are twice that. fp16 has 4e-5 in
few rows, and its bound leaves room for weights that round worse. A wrong kernel is off by the whole output.
"""

_MARKS = (("Int8", "int8"), ("Fp16", "fp16"))


@dataclass(frozen=True)
class Precision:
    """Whether zeros are skipped, and the arithmetic of the products: a key of `TOLERANCES`."""

    sparse: bool
    precision: str

    @property
    def tolerance(self) -> float:
        """Difference up to which outputs count as right."""
        return TOLERANCES[self.precision]

    def __str__(self) -> str:
        return f"{'sparse' if self.sparse else 'dense'} {self.precision}"

    @classmethod
    def parse(cls, text: str) -> Precision:
        """The inverse of ``str``.

        Raises:
            ValueError: no kind is written like that.
        """
        which, _, precision = text.partition(" ")
        if which not in ("dense", "sparse") or precision not in TOLERANCES:
            raise ValueError(f"{text!r} is no kind")
        return cls(which == "sparse", precision)


def stored_precision(model: OnnxFile) -> str:
    """How a file stores its sparse matrices, by the names of the functions that it brings."""
    return next((word for mark, word in _MARKS if any(mark in name for name in model.functions)), "fp32")
