"""Whether outputs are right: compared with what stock ONNX Runtime gives on a reference model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aerogel.bench.inputs import real_tokens

__all__ = ["difference", "without_padding"]


def difference(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Largest max |y - e| / max |e| of all outputs; infinite where shapes differ or values of `outputs` are not finite.

    NaN where values of `expected` are not finite, which nothing can be compared with.
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
    """Outputs with only the real tokens of those that have one entry per token, ``[batch, sequence, ...]``.

    What stands at padding means nothing: fused encoders leave zeros there, others whatever comes out.
    """
    if not lengths:
        return list(outputs)
    real = real_tokens(len(lengths), max(lengths), lengths)
    return [array[real] if array.shape[:2] == real.shape else array for array in outputs]
