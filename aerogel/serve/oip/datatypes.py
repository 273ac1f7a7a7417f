"""Data types of the protocol, and the errors of a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel.errors import UsageError

__all__ = ["BYTES", "DTYPES", "InferenceError", "Tensor", "datatype_of"]

BYTES = "BYTES"
"""Data type of byte strings, which are NumPy arrays of `bytes` objects here."""

DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    **{
        f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits}")
        for kind in ("UINT", "INT")
        for bits in (8, 16, 32, 64)
    },
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    BYTES: np.dtype(object),
}
"""NumPy type of each data type."""

_ONNX = {
    "bool": "BOOL", "float16": "FP16", "float": "FP32", "double": "FP64", "string": BYTES,
    **{name.lower(): name for name in DTYPES if "INT" in name},
}  # fmt: skip


class InferenceError(UsageError):
    """A request that cannot be answered.

    Args:
        message: what is wrong with it, in one line.
        status: HTTP status.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        name: its name.
        datatype: one of `DTYPES`.
        shape: its sizes; -1 for each that the request decides.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


def datatype_of(onnx_type: str) -> str:
    """The data type of an ONNX type such as ``tensor(int64)``.

    Raises:
        UsageError: the protocol has no such type.
    """
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    if name not in _ONNX:
        raise UsageError(
            f"{onnx_type} is not a type of the Open Inference Protocol; export the model with float32"
        )
    return _ONNX[name]
