from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aerogel.errors import FormatError
from aerogel.sparse.formats import FORMATS

BITMASK = FORMATS.get("bitmask")


def arrays() -> dict[str, np.ndarray]:
    """2 x 12: columns 0 and 11 of the first row, column 7 of the second."""
    mask = np.zeros((2, 12), bool)
    mask[0, [0, 11]] = mask[1, 7] = True
    return BITMASK.encode(np.arange(24, dtype=np.int8).reshape(2, 12), mask)


def test_layout_is_the_documented_one() -> None:
    found = arrays()
    assert found["bitmask"].tolist() == [[0x01, 0x08], [0x80, 0x00]]
    assert found["data"].tolist() == [0, 11, 19]


def test_kernels_get_csr_and_the_auxiliary_arrays() -> None:
    scale = np.ones(2, np.float32)
    found = BITMASK.for_kernels(arrays() | {"scale": scale}, (2, 12))
    assert set(found) == {"data", "indices", "indptr", "scale"}
    assert found["indices"].tolist() == [0, 11, 7]
    assert found["indptr"].tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("array", "change", "message"),
    [
        ("bitmask", lambda a: a | np.uint8(0x10), "has a bit set in row 0 beyond its 12 columns"),
        ("bitmask", lambda a: a & np.uint8(0x7F), "has 2 bits set where data has 3 values"),
        ("data", lambda a: a[:-1], "has 3 bits set where data has 2 values"),
        ("bitmask", lambda a: a[:, :1], r"bitmask must be uint8\[2, 2\], not uint8\[2, 1\]"),
        ("bitmask", lambda a: a.astype(np.int8), r"bitmask must be uint8\[2, 2\], not int8"),
        ("data", lambda a: a[:, None], "data must have one dimension"),
    ],
)
def test_malformed_arrays_are_refused(
    array: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    found = arrays()
    found[array] = change(found[array])
    for read in (BITMASK.decode, BITMASK.for_kernels):
        with pytest.raises(FormatError, match=message):
            read(found, (2, 12))
