"""int8: 8-bit integers with a scale per row. The product uses 8-bit activations with a scale per token.

w[n,k] ~ scale[n] W8[n,k],    W8[n,k] = round_half_even(w[n,k] / scale[n]),    scale[n] = max_k |w[n,k]| / 127
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from aerogel.errors import ExportError
from aerogel.ops.value_type import ValueType
from aerogel.sparse.format import Arrays

if TYPE_CHECKING:
    import torch

__all__ = ["VALUE_TYPE", "Int8"]

_MAX = 127
# Lower bound of a token's largest entry; avoids a division by zero.
_MIN_ABS = 1e-20


class Int8(ValueType):
    """See the module's docstring."""

    suffix = "-int8"
    dense = False
    rounds_activations = True

    def encode(self, weight: np.ndarray, name: str) -> tuple[np.ndarray, Arrays]:
        """Round to int8. Auxiliary array: scale, float32 ``[rows]``; 1 for a row of zeros."""
        if not np.isfinite(weight).all():
            raise ExportError(f"{name} has NaN or infinite values, which int8 cannot store; store it as fp32")
        scale = (np.abs(weight).max(axis=1, initial=0.0) / np.float32(_MAX)).astype(np.float32)
        scale[scale == 0] = 1
        # Division of subnormal numbers may round to more than 127.
        steps = np.clip(np.rint(weight / scale[:, None]), -_MAX, _MAX)
        return steps.astype(np.int8), {"scale": scale}

    def decode(self, values: np.ndarray, auxiliary: Mapping[str, np.ndarray]) -> np.ndarray:
        """See `ValueType.decode`."""
        decoded: np.ndarray = values.astype(np.float32) * auxiliary["scale"][:, None]
        return decoded

    def activations(self, x: torch.Tensor) -> torch.Tensor:
        """Round each token to multiples of 1/127 of its largest absolute entry."""
        largest = x.abs().amax(-1, keepdim=True).clamp_min(_MIN_ABS)
        return (x * (_MAX / largest)).round() * (largest * (1 / _MAX))


VALUE_TYPE = Int8()
