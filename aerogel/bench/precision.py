"""Precision of a run: dense or sparse, and the data type of its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from aerogel.bench.model import OnnxFile

__all__ = ["TOLERANCES", "Precision", "stored_dtype"]

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-3, "bf16": 1e-2, "int8": 1.2e-1}
"""Largest accepted error of an output, relative to the reference output's largest magnitude.

Two correct float32 orders of summation differ by about 1e-6 after twelve layers. The largest errors in docs/results are
6e-2 in int8 and 5e-3 in bf16, both of untrained encoders; the bounds are twice that. fp16 has 4e-5 in few rows, and its
bound leaves room for weights that round worse. A wrong kernel is off by the whole output.
"""

_FUNCTION_MARKS = (("Int8", "int8"), ("Fp16", "fp16"))


@dataclass(frozen=True)
class Precision:
    """Whether zeros are skipped, and the data type of the arithmetic: a key of `TOLERANCES`."""

    sparse: bool
    dtype: str

    @property
    def tolerance(self) -> float:
        """Largest relative error at which outputs count as correct."""
        return TOLERANCES[self.dtype]

    def __str__(self) -> str:
        return f"{'sparse' if self.sparse else 'dense'} {self.dtype}"

    @classmethod
    def parse(cls, text: str) -> Precision:
        """Parse what ``str`` returns, such as "sparse int8".

        Raises:
            ValueError: `text` is not a precision.
        """
        which, _, dtype = text.partition(" ")
        if which not in ("dense", "sparse") or dtype not in TOLERANCES:
            raise ValueError(f"{text!r} is not a precision")
        return cls(which == "sparse", dtype)


def stored_dtype(model: OnnxFile) -> str:
    """Return the data type of a file's sparse matrices, by the names of its functions."""
    return next(
        (dtype for mark, dtype in _FUNCTION_MARKS if any(mark in name for name in model.functions)), "fp32"
    )
