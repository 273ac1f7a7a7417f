"""IEEE half precision: half the bytes, 11 bits of mantissa. Products widen it to float32 again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aerogel.errors import ExportError
from aerogel.ops.value_type import ValueType
from aerogel.sparse.format import Arrays

__all__ = ["VALUE_TYPE", "Fp16"]


class Fp16(ValueType):
    """See the module's docstring."""

    suffix = "-fp16"
    dense = True

    def encode(self, weight: np.ndarray, name: str) -> tuple[np.ndarray, Arrays]:
        """Values float16 of the weight's shape, rounded to the nearest."""
        with np.errstate(over="ignore"):
            values = weight.astype(np.float16)
        if not np.isfinite(values).all():
            largest = float(np.abs(weight).max())
            raise ExportError(
                f"{name} has a value of {largest:g}, and half precision ends at 65504; store it as fp32"
            )
        return values, {}

    def decode(
        self,
        values: np.ndarray,
        beside: Mapping[str, np.ndarray],  # noqa: ARG002 - the interface's
    ) -> np.ndarray:
        """See `WeightType.decode`."""
        return values.astype(np.float32)


VALUE_TYPE = Fp16()
