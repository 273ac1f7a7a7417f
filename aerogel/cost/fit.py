"""Fit measured times by sums of non-negative costs."""

from __future__ import annotations

import numpy as np

__all__ = ["fit_costs"]


def fit_costs(features: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Costs c >= 0 ``[features]`` such that ``features @ c`` approximates measured times.

    Minimizes the sum of squared relative errors. A negative solution is set to zero, the most negative first, and the
    other costs are fitted again: a time that falls with more work is noise.

    Args:
        features: float ``[samples, features]``, not negative.
        seconds: positive times ``[samples]``.
    """
    relative = features / seconds[:, None]
    scales = relative.max(axis=0)
    used = scales > 0
    costs = np.zeros(features.shape[1])
    while used.any():
        solution = np.linalg.lstsq(relative[:, used] / scales[used], np.ones(len(seconds)), rcond=None)[0]
        if (solution >= 0).all():
            costs[used] = solution / scales[used]
            break
        used[np.flatnonzero(used)[solution.argmin()]] = False
    return costs
