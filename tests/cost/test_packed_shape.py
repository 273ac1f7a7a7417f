from __future__ import annotations

import numpy as np
import pytest

from aerogel.cost.masks import random_mask
from aerogel.cost.models import format_of
from aerogel.cost.packed_shape import PackedShape, packed_shape_of
from aerogel.errors import RuntimeLoadError
from aerogel.kernels.cpu import native
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.sparse.formats import FORMATS


def packed_shape(mask: np.ndarray, block: tuple[int, int], weights: str) -> PackedShape:
    values, _ = VALUE_TYPES.get(weights).encode(mask.astype(np.float32), "w")
    return packed_shape_of(
        FORMATS.get(format_of(block)).encode(values, mask, block), (mask.shape[0], mask.shape[1])
    )


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[c == "x" for c in row] for row in rows])


def test_slots_of_single_rows_are_entries() -> None:
    mask = mask_of("xx......", "........", "x.....x.", "x.......")
    found = packed_shape(mask, (1, 1), "fp32")
    assert (found.kernel, found.panel_rows, found.block_features) == ("fp32-1", 1, 1)
    assert found.slot_fraction == found.stored_fraction == 5 / 32
    assert found.row_lengths == 2  # lengths 2 and 1; empty rows are not processed
    assert found.bytes == 5 * (4 + 1)


def test_int8_slot_has_four_features() -> None:
    mask = mask_of("xx......", "........", "x.....x.", "x.......")
    found = packed_shape(mask, (1, 1), "int8")
    assert found.kernel == "int8-1"
    assert found.stored_fraction == 5 / 32
    assert found.slot_fraction == 4 / 8  # rows store 1, 0, 2 and 1 of 2 slots
    assert found.bytes == 32 * 0.5 * (1 + 1 / 4)
    # Entries spread evenly: a slot of four features is empty if none of them is stored.
    assert found.with_stored_fraction(0.5).slot_fraction == 1 - 0.5**4
    assert not found.has_dense_form
    assert found.fully_stored().slot_fraction == found.fully_stored().stored_fraction == 1
    assert found.fully_stored().kernel == "int8-4"


def test_1x4_block_fills_an_int8_slot() -> None:
    mask = mask_of("xxxx....", "....xxxx")
    found = packed_shape(mask, (1, 4), "int8")
    assert (found.block_features, found.slot_fraction, found.stored_fraction) == (4, 0.5, 0.5)
    assert found.with_stored_fraction(0.3).slot_fraction == pytest.approx(0.3)


@pytest.mark.parametrize(("rows", "panel_rows"), [(1, 1), (2, 2), (3, 1), (4, 4), (6, 2), (8, 4), (12, 4)])
def test_panel_rows_divide_the_block_rows(rows: int, panel_rows: int) -> None:
    mask = random_mask((24, 16), 0.5, (rows, 1), np.random.default_rng(0))
    found = packed_shape(mask, (rows, 1), "fp16")
    assert found.kernel == f"fp16-{panel_rows}"
    assert found.slot_fraction == found.stored_fraction == mask.mean()
    assert found.bytes == pytest.approx(mask.sum() * (2 + 1 / panel_rows))


def test_row_lengths_are_counted_per_column_tile() -> None:
    # The first columns are in the first tile, the last column in the last tile.
    mask = np.zeros((4, 1024), bool)
    mask[0, :3] = mask[1, :1] = mask[2, 1:2] = mask[3, -1:] = True
    found = packed_shape(mask, (1, 1), "fp32")
    assert found.segments >= 4  # no tile has more than 256 columns
    assert found.row_lengths == 3  # first tile: 3 and 1; last: 1
    assert found.fully_stored().row_lengths == found.segments


def test_missing_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    native._library.cache_clear()
    try:
        with pytest.raises(RuntimeLoadError, match="the native library is not built"):
            packed_shape(np.ones((4, 8), bool), (1, 1), "fp32")
    finally:
        native._library.cache_clear()


def test_empty_matrix_has_no_slots() -> None:
    found = packed_shape(np.zeros((4, 8), bool), (1, 1), "fp32")
    assert (found.slot_fraction, found.stored_fraction, found.row_lengths, found.bytes) == (0, 0, 0, 0)


@pytest.mark.parametrize("skewed", [False, True])
def test_random_mask_has_the_density_in_whole_blocks(skewed: bool) -> None:
    mask = random_mask((512, 256), 0.3, (4, 2), np.random.default_rng(0), skewed=skewed)
    assert mask.mean() == pytest.approx(0.3, abs=0.02)
    blocks = mask.reshape(128, 4, 128, 2)
    assert ((blocks.sum((1, 3)) == 8) | (blocks.sum((1, 3)) == 0)).all()
    spread = mask.mean(axis=1).std()
    assert (spread > 0.1) == skewed
