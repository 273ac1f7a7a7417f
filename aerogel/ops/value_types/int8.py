"""8-bit integers with a scale per row, multiplied with activations in 8 bits with a scale per token.

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

_MOST = 127
# The scale of a token of zeros, times 127: no division by zero.
_LEAST = 1e-20


class Int8(ValueType):
    """See the module's docstring."""

    suffix = "-int8"
    dense = False
    rounds_activations = True

    def encode(self, weight: np.ndarray, name: str) -> tuple[np.ndarray, Arrays]:
        """Integers int8 of the weight's shape, and scale float32 ``[rows]``; that of a row of zeros is 1."""
        if not np.isfinite(weight).all():
            raise ExportError(f"{name} has values that are not finite; 8 bits cannot store them")
        scale = (np.abs(weight).max(axis=1, initial=0.0) / np.float32(_MOST)).astype(np.float32)
        scale[scale == 0] = 1
        # The quotient of numbers too small for a full mantissa may pass 127.
        steps = np.clip(np.rint(weight / scale[:, None]), -_MOST, _MOST)
        return steps.astype(np.int8), {"scale": scale}

    def decode(self, values: np.ndarray, beside: Mapping[str, np.ndarray]) -> np.ndarray:
        """See `WeightType.decode`."""
        decoded: np.ndarray = values.astype(np.float32) * beside["scale"][:, None]
        return decoded

    def activations(self, x: torch.Tensor) -> torch.Tensor:
        """Every token rounded to multiples of a 127th of its largest entry."""
        most = x.abs().amax(-1, keepdim=True).clamp_min(_LEAST)
        return (x * (_MOST / most)).round() * (most * (1 / _MOST))


VALUE_TYPE = Int8()
