"""fp16: IEEE half precision, 2 bytes and 11 significant bits. Kernels widen it to float32 before the product."""

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
        """Round to float16, to nearest."""
        with np.errstate(over="ignore"):
            values = weight.astype(np.float16)
        if not np.isfinite(values).all():
            largest = float(np.abs(weight).max())
            raise ExportError(
                f"{name} has a value of {largest:g}, and fp16 stores at most 65504; store it as fp32"
            )
        return values, {}

    def decode(
        self,
        values: np.ndarray,
        auxiliary: Mapping[str, np.ndarray],  # noqa: ARG002 - part of the interface
    ) -> np.ndarray:
        """See `ValueType.decode`."""
        return values.astype(np.float32)


VALUE_TYPE = Fp16()
