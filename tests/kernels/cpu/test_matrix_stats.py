"""Compare the library's statistics of packed matrices with numpy."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from aerogel.errors import FormatError, RuntimeLoadError, UsageError
from aerogel.kernels.cpu import native
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS

AVAILABLE = [isa.name for isa in native.isas() if isa.available]


def encode(mask: np.ndarray, block: tuple[int, int], dtype: type) -> Arrays:
    return FORMATS.get("csr" if block == (1, 1) else "bsr").encode(mask.astype(dtype), mask, block)


@pytest.mark.parametrize("isa", AVAILABLE)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("block", [(1, 1), (4, 1), (2, 1), (1, 4), (3, 2), (6, 4)])
def test_stats_equal_counts_by_numpy(isa: str, dtype: type, block: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    out, inside = 48, 602 if block[1] < 4 else 600
    kept = (
        random.random((out // block[0], inside // block[1])) < np.linspace(0, 0.3, out // block[0])[:, None]
    )
    mask = np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
    stats = native.matrix_stats(encode(mask, block, dtype), inside, isa)
    rows = next(rows for rows in (4, 2, 1) if block[0] % rows == 0)
    features = 4 if dtype is np.int8 else 1
    assert (stats.panel_rows, stats.column_features) == (rows, features)
    columns = math.ceil(inside / features)
    padded = np.zeros((out, columns * features), bool)
    padded[:, :inside] = mask
    slots = padded.reshape(out // rows, rows, columns, features).any((1, 3))
    assert (stats.slots, stats.all_slots) == (slots.sum(), slots.size)
    assert stats.padding == slots.sum() * rows * features - mask.sum()
    assert stats.chunks == 1, "a matrix of 48 rows is not cut"
    width = math.ceil(columns / stats.tiles)
    lengths = [slots[:, tile * width : (tile + 1) * width].sum(1) for tile in range(stats.tiles)]
    assert width <= 256
    assert stats.panels == sum(np.count_nonzero(found) for found in lengths)
    assert stats.groups == sum(len(set(found[found > 0])) for found in lengths)
    value = 2 if dtype is np.float16 else 4
    assert stats.bytes == stats.slots * (rows * value + 1) + 6 * stats.panels + 4 * stats.groups


def test_large_matrices_are_split_into_chunks_that_cover_all_rows() -> None:
    mask = np.zeros((1024, 64), bool)
    mask[:, 0] = True
    stats = native.matrix_stats(encode(mask, (1, 1), np.float32), 64)
    assert 1 <= stats.chunks <= 8
    assert (stats.panels, stats.groups) == (1024, stats.chunks)


def test_rejects_malformed_matrices() -> None:
    arrays = encode(np.eye(8, dtype=bool), (1, 1), np.float32)
    with pytest.raises(FormatError, match=r"indices have 7 at position 7, which is outside \[0, 7\)"):
        native.matrix_stats(arrays, 7)
    with pytest.raises(FormatError, match="in_features must be an integer"):
        native.matrix_stats(arrays, 0)
    with pytest.raises(FormatError, match="indptr is missing"):
        native.matrix_stats({name: arrays[name] for name in ("data", "indices")}, 8)
    with pytest.raises(UsageError, match="unknown instruction set 'sse'"):
        native.matrix_stats(arrays, 8, "sse")
    dense = native._Matrix(2, 2, 0, 0, 0, 0, 0, arrays["data"].ctypes.data, None, None, None, None)
    error = ctypes.create_string_buffer(64)
    found = native._Stats()
    assert (
        native._library().aerogel_matrix_stats(ctypes.byref(dense), None, ctypes.byref(found), error, 64) == 1
    )
    assert error.value == b"matrix is dense"


def test_rejects_an_older_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        aerogel_isa = None

        def __init__(self, path: str) -> None:
            pass

    monkeypatch.setattr(ctypes, "CDLL", Old)
    native._library.cache_clear()
    try:
        with pytest.raises(
            RuntimeLoadError, match="belongs to another version of Aerogel; reinstall aerogel"
        ):
            native.isas()
    finally:
        native._library.cache_clear()
