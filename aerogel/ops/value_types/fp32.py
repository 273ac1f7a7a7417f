"""fp32: the checkpoint's values, unchanged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aerogel.ops.value_type import ValueType
from aerogel.sparse.format import Arrays

__all__ = ["VALUE_TYPE", "Fp32"]


class Fp32(ValueType):
    """See the module's docstring."""

    suffix = ""
    dense = True

    def encode(self, weight: np.ndarray, name: str) -> tuple[np.ndarray, Arrays]:  # noqa: ARG002 - part of the interface
        """See `ValueType.encode`."""
        return weight, {}

    def decode(
        self,
        values: np.ndarray,
        auxiliary: Mapping[str, np.ndarray],  # noqa: ARG002 - part of the interface
    ) -> np.ndarray:
        """See `ValueType.decode`."""
        return values


VALUE_TYPE = Fp32()
