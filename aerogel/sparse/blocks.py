"""Find the blocks in which a matrix was pruned."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["common_block"]

# Blocks that pruning tools use, the largest first.
_BLOCKS = (
    (32, 32),
    (16, 16),
    (8, 8),
    (4, 4),
    (1, 16),
    (16, 1),
    (1, 8),
    (8, 1),
    (1, 4),
    (4, 1),
    (1, 2),
    (2, 1),
)
# Above this density zeros are accidents, and say nothing about blocks.
_PRUNED = 0.95
# Rows that are looked at first: a matrix without blocks is recognised by them.
_FIRST_ROWS = 64


def common_block(masks: Iterable[np.ndarray]) -> tuple[int, int]:
    """The largest block (rows, cols) in which every pruned mask ``[out, in]`` was pruned; (1, 1) if no block fits."""
    masks = list(masks)
    pruned = [mask for mask in masks if np.count_nonzero(mask) < _PRUNED * mask.size]
    if not pruned:
        return (1, 1)
    return next(
        (
            (r, c)
            for r, c in _BLOCKS
            if not any(mask.shape[0] % r or mask.shape[1] % c for mask in masks)
            and all(_whole(mask[:_FIRST_ROWS], (r, c)) and _whole(mask, (r, c)) for mask in pruned)
        ),
        (1, 1),
    )


def _whole(mask: np.ndarray, block: tuple[int, int]) -> bool:
    """Whether no block is kept in part."""
    (rows, cols), (r, c) = mask.shape, block
    tiles = mask.reshape(rows // r, r, cols // c, c)
    return bool((tiles.any((1, 3)) == tiles.all((1, 3))).all())
