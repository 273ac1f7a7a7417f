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


def product(mask: np.ndarray, block: tuple[int, int], weights: str) -> PackedShape:
    values, _ = VALUE_TYPES.get(weights).encode(mask.astype(np.float32), "w")
    return packed_shape_of(
        FORMATS.get(format_of(block)).encode(values, mask, block), (mask.shape[0], mask.shape[1])
    )


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[c == "x" for c in row] for row in rows])


def test_entries_of_rows_are_slots() -> None:
    mask = mask_of("xx......", "........", "x.....x.", "x.......")
    found = product(mask, (1, 1), "fp32")
    assert (found.kind, found.height, found.fill) == ("fp32-1", 1, 1)
    assert found.share == found.stored == 5 / 32
    assert found.lengths == 2  # two rows of 2 entries, one of 1; empty ones are not walked
    assert found.bytes == 5 * (4 + 1)


def test_four_features_are_one_slot_of_int8() -> None:
    mask = mask_of("xx......", "........", "x.....x.", "x.......")
    found = product(mask, (1, 1), "int8")
    assert found.kind == "int8-1"
    assert found.stored == 5 / 32
    assert found.share == 4 / 8  # of two slots a row: 1, 0, 2 and 1
    assert found.bytes == 32 * 0.5 * (1 + 1 / 4)
    # Of evenly spread entries: a slot of four features is empty if none of them is stored.
    assert found.at(0.5).share == 1 - 0.5**4
    assert not found.has_dense_form
    assert found.whole().share == found.whole().stored == 1
    assert found.whole().kind == "int8-4"


def test_blocks_of_four_features_fill_their_slot() -> None:
    mask = mask_of("xxxx....", "....xxxx")
    found = product(mask, (1, 4), "int8")
    assert (found.fill, found.share, found.stored) == (4, 0.5, 0.5)
    assert found.at(0.3).share == pytest.approx(0.3)


@pytest.mark.parametrize(("rows", "height"), [(1, 1), (2, 2), (3, 1), (4, 4), (6, 2), (8, 4), (12, 4)])
def test_panels_are_as_high_as_blocks_allow(rows: int, height: int) -> None:
    mask = random_mask((24, 16), 0.5, (rows, 1), np.random.default_rng(0))
    found = product(mask, (rows, 1), "fp16")
    assert found.kind == f"fp16-{height}"
    assert found.share == found.stored == mask.mean()
    assert found.bytes == pytest.approx(mask.sum() * (2 + 1 / height))


def test_lengths_are_counted_by_tiles() -> None:
    # Column 0 is in the first tile, the last column in the last; rows in between have entries in the first only.
    mask = np.zeros((4, 1024), bool)
    mask[0, :3] = mask[1, :1] = mask[2, 1:2] = mask[3, -1:] = True
    found = product(mask, (1, 1), "fp32")
    assert found.segments >= 4  # no tile has more than 256 columns
    assert found.lengths == 3  # first tile: 3 and 1; last: 1
    assert found.whole().lengths == found.segments


def test_without_the_library_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    native._library.cache_clear()
    try:
        with pytest.raises(RuntimeLoadError, match="the native library is not built"):
            product(np.ones((4, 8), bool), (1, 1), "fp32")
    finally:
        native._library.cache_clear()


def test_an_empty_matrix_has_no_slots() -> None:
    found = product(np.zeros((4, 8), bool), (1, 1), "fp32")
    assert (found.share, found.stored, found.lengths, found.bytes) == (0, 0, 0, 0)


@pytest.mark.parametrize("skewed", [False, True])
def test_random_masks_keep_what_was_asked_for_in_whole_blocks(skewed: bool) -> None:
    mask = random_mask((512, 256), 0.3, (4, 2), np.random.default_rng(0), skewed=skewed)
    assert mask.mean() == pytest.approx(0.3, abs=0.02)
    blocks = mask.reshape(128, 4, 128, 2)
    assert ((blocks.sum((1, 3)) == 8) | (blocks.sum((1, 3)) == 0)).all()
    spread = mask.mean(axis=1).std()
    assert (spread > 0.1) == skewed
