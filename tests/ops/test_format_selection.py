from __future__ import annotations

import numpy as np
import pytest

from aerogel.errors import UsageError
from aerogel.ops.format_selection import StorageFormat, candidates, select

CSR, FOURS = StorageFormat("csr", (1, 1)), StorageFormat("bsr", (4, 1))


def test_candidates() -> None:
    assert candidates("csr") == [CSR]
    assert candidates("bsr") == [FOURS]
    assert candidates("bsr", None, (1, 1)) == [StorageFormat("bsr", (1, 1))]
    assert candidates("bsr", (2, 2), (8, 1)) == [StorageFormat("bsr", (2, 2))]
    assert candidates("auto") == candidates("auto", None, (1, 1)) == [CSR, FOURS]
    assert candidates("auto", None, (16, 16)) == [CSR, StorageFormat("bsr", (16, 16))]
    with pytest.raises(UsageError, match="does not apply"):
        candidates("csr", (4, 1))
    with pytest.raises(UsageError, match="format 'bitmask' is for files; use 'csr'"):
        candidates("bitmask")


def test_stored_fraction_counts_whole_blocks() -> None:
    mask = np.zeros((8, 4), bool)
    mask[0, 0] = mask[5, 3] = mask[6, 3] = True
    assert CSR.stored(mask, "w") == 3 / 32
    assert FOURS.stored(mask, "w") == 8 / 32
    with pytest.raises(UsageError, match="3x1 does not divide w"):
        StorageFormat("bsr", (3, 1)).stored(mask, "w")


def test_select_prefers_the_format_farthest_below_its_break_even() -> None:
    scattered = np.zeros((8, 10), bool)
    scattered[[0, 4], 0] = scattered[[1, 5], 5] = True
    assert select("w", scattered, [CSR, FOURS]) == CSR
    columns = np.zeros((8, 10), bool)
    columns[:, 2] = True
    assert select("w", columns, [CSR, FOURS]) == FOURS
    assert select("w", columns, [CSR, FOURS], max_density=0.05) is None
    assert select("w", np.ones((8, 10), bool), [CSR, FOURS]) is None
    assert select("w", np.ones((8, 10), bool), [CSR], max_density=1.0) == CSR
    assert select("w", np.zeros((8, 10), bool), [CSR, FOURS]) == CSR
    with pytest.raises(UsageError, match="does not divide"):
        select("w", np.zeros((6, 10), bool), [FOURS])
    assert select("w", np.zeros((6, 10), bool), [CSR, FOURS]) == CSR
