from __future__ import annotations

import numpy as np
import pytest

from aerogel.sparse.blocks import common_block


def mask(block: tuple[int, int], shape: tuple[int, int] = (96, 128), seed: int = 0) -> np.ndarray:
    kept = np.random.default_rng(seed).random((shape[0] // block[0], shape[1] // block[1])) < 0.3
    return np.repeat(np.repeat(kept, block[0], 0), block[1], 1)


@pytest.mark.parametrize("block", [(1, 1), (4, 1), (1, 4), (8, 8), (32, 32), (2, 1)])
def test_block_of_a_mask(block: tuple[int, int]) -> None:
    assert common_block([mask(block)]) == block


def test_block_must_fit_every_pruned_mask() -> None:
    assert common_block([mask((8, 8)), mask((4, 4), seed=1)]) == (4, 4)
    assert common_block([mask((8, 8)), mask((1, 1), seed=1)]) == (1, 1)
    assert common_block([mask((8, 8)), np.ones((12, 128), bool)]) == (4, 4)
    assert common_block([np.ones((8, 8), bool)]) == common_block([]) == (1, 1)


def test_a_late_row_counts() -> None:
    found = mask((8, 8))
    found[90, 3] ^= True
    assert common_block([found]) == (1, 1)


def test_a_few_zeros_of_an_unpruned_matrix_say_nothing() -> None:
    accident = np.ones((96, 128), bool)
    accident[5, 7] = False
    assert common_block([mask((8, 8)), accident]) == (8, 8)
