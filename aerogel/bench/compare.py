"""Compare outputs with those of stock ONNX Runtime on a reference model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aerogel.bench.inputs import real_tokens

__all__ = ["relative_error", "without_padding"]


def relative_error(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the largest max |y - e| / max |e| of all outputs.

    Infinite if shapes differ or `outputs` contain NaN or infinity. NaN if `expected` contain NaN or infinity, as
    nothing can be compared with those.
    """
    if not all(np.isfinite(e).all() for e in expected):
        return math.nan
    if [y.shape for y in outputs] != [e.shape for e in expected]:
        return math.inf
    worst = 0.0
    for y, e in zip(outputs, expected, strict=True):
        if not np.isfinite(y).all():
            return math.inf
        distance = float(np.max(np.abs(y.astype(np.float64) - e), initial=0.0))
        scale = float(np.max(np.abs(e), initial=0.0))
        if distance:
            worst = max(worst, distance / scale if scale else math.inf)
    return worst


def without_padding(outputs: Sequence[np.ndarray], lengths: Sequence[int]) -> list[np.ndarray]:
    """Keep only the real tokens of each output of shape ``[batch, sequence, ...]``; return other outputs unchanged.

    Values at padding are undefined: fused encoders write zeros there, other models do not.
    """
    if not lengths:
        return list(outputs)
    real = real_tokens(len(lengths), max(lengths), lengths)
    return [array[real] if array.shape[:2] == real.shape else array for array in outputs]
