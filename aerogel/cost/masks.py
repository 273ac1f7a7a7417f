"""Masks to measure with: spread evenly, or with busy and idle rows and columns as pruning leaves them."""

from __future__ import annotations

import numpy as np

__all__ = ["random_mask"]

# Spread of the logarithm of what rows and columns keep, as magnitude and movement pruning leave it in small BERTs.
_ROWS, _COLUMNS = 0.7, 0.5


def random_mask(
    shape: tuple[int, int],
    density: float,
    block: tuple[int, int],
    random: np.random.Generator,
    *,
    skewed: bool = False,
) -> np.ndarray:
    """Boolean ``[rows, columns]`` that keeps about `density` of the blocks (rows, columns) of a matrix.

    Each block is kept by a throw of its own, with the probability min(1, c r[i] k[j]); r and k are 1, or, if `skewed`,
    lognormal.
    """
    rows, columns = shape[0] // block[0], shape[1] // block[1]
    chance = np.full((rows, columns), density)
    if skewed:
        uneven = _ROWS * random.standard_normal((rows, 1)) + _COLUMNS * random.standard_normal((1, columns))
        weight = np.exp(uneven)
        chance = density / weight.mean() * weight
        for _ in range(5):  # what is cut off at 1 is kept elsewhere
            chance = np.minimum(1, chance * (density / np.minimum(1, chance).mean()))
    kept = random.random((rows, columns)) < chance
    return np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
