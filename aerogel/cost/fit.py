"""Fitting times by sums of costs."""

from __future__ import annotations

import numpy as np

__all__ = ["costs"]


def costs(features: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Costs c >= 0 ``[features]`` that bring ``features @ c`` close to measured times.

    What is made small is the sum of squared relative errors. A cost that comes out negative is taken to be zero and
    the others are fitted anew, the most negative first: a time that falls with more work is noise.

    Args:
        features: float ``[samples, features]``, not negative.
        seconds: positive times ``[samples]``.
    """
    relative = features / seconds[:, None]
    sizes = relative.max(axis=0)
    used = sizes > 0
    found = np.zeros(features.shape[1])
    while used.any():
        solution = np.linalg.lstsq(relative[:, used] / sizes[used], np.ones(len(seconds)), rcond=None)[0]
        if (solution >= 0).all():
            found[used] = solution / sizes[used]
            break
        used[np.flatnonzero(used)[solution.argmin()]] = False
    return found
