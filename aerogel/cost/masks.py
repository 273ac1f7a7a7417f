"""Random masks for measurements: uniform, or with uneven rows and columns as pruning produces them."""

from __future__ import annotations

import numpy as np

__all__ = ["random_mask"]

# Standard deviation of the log density of rows and columns, as measured after magnitude and movement pruning of small
# BERTs.
_ROW_SPREAD, _COLUMN_SPREAD = 0.7, 0.5


def random_mask(
    shape: tuple[int, int],
    density: float,
    block: tuple[int, int],
    random: np.random.Generator,
    *,
    skewed: bool = False,
) -> np.ndarray:
    """Boolean mask ``[rows, cols]`` that keeps about `density` of the blocks of a matrix.

    Block (i, j) is kept independently with probability min(1, c r[i] k[j]). r and k are 1, or lognormal if `skewed`;
    c makes the mean equal `density`.
    """
    rows, columns = shape[0] // block[0], shape[1] // block[1]
    probability = np.full((rows, columns), density)
    if skewed:
        logs = _ROW_SPREAD * random.standard_normal((rows, 1)) + _COLUMN_SPREAD * random.standard_normal(
            (1, columns)
        )
        weight = np.exp(logs)
        probability = density / weight.mean() * weight
        for _ in range(5):  # clipping at 1 lowers the mean; scale the others up
            probability = np.minimum(1, probability * (density / np.minimum(1, probability).mean()))
    kept = random.random((rows, columns)) < probability
    return np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
