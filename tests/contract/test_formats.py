"""Rules for every storage format. New formats are found by their file names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.errors import FormatError, UsageError
from aerogel.sparse.format import Format
from aerogel.sparse.formats import FORMATS

every = pytest.mark.parametrize("name", FORMATS.names())
indexed = pytest.mark.parametrize(
    "name", [name for name in FORMATS.names() if "indices" in FORMATS.get(name).names]
)


@st.composite
def masked_matrices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    block = draw(st.sampled_from([(1, 1), (4, 1), (1, 4), (2, 3), (5, 5)]))
    rows, cols = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kept = random.random((rows, cols)) < draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    mask = np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
    weight = random.standard_normal(mask.shape).astype(np.float32)
    # Kept entries may be zero, of either sign; they are stored like the others.
    weight[random.random(mask.shape) < 0.1] = -0.0
    return weight, mask, block


@every
@settings(deadline=None)  # a slow machine is not a failure
@given(case=masked_matrices())
def test_round_trip_is_bit_equal(name: str, case: tuple[np.ndarray, np.ndarray, tuple[int, int]]) -> None:
    weight, mask, block = case
    storage = FORMATS.get(name)
    arrays = storage.encode(weight, mask, block)
    assert tuple(arrays) == storage.names
    storage.check(arrays, weight.shape, full=True)
    decoded = storage.decode(arrays, weight.shape)
    np.testing.assert_array_equal(
        decoded.view(np.uint32), np.where(mask, weight, np.float32(0)).view(np.uint32)
    )


@every
@settings(deadline=None)  # a slow machine is not a failure
@given(case=masked_matrices())
def test_scipy_reads_the_arrays(name: str, case: tuple[np.ndarray, np.ndarray, tuple[int, int]]) -> None:
    weight, mask, block = case
    storage = FORMATS.get(name)
    arrays = storage.for_kernels(storage.encode(weight, mask, block), weight.shape)
    scipy_class: Any = scipy.sparse.bsr_array if arrays["data"].ndim == 3 else scipy.sparse.csr_array
    matrix = scipy_class(
        (arrays["data"], arrays["indices"].astype(np.int32), arrays["indptr"]), shape=weight.shape
    )
    matrix.check_format(full_check=True)
    np.testing.assert_array_equal(matrix.toarray(), np.where(mask, weight, 0))


@every
def test_matrices_beyond_uint16_have_int32_indices(name: str) -> None:
    weight, storage = np.ones((1, 65_537), np.float32), FORMATS.get(name)
    for columns, dtype in ((65_537, np.int32), (65_536, np.uint16)):
        part = weight[:, :columns]
        arrays = storage.for_kernels(storage.encode(part, part > 0), part.shape)
        assert arrays["indices"].dtype == dtype


def _sample(storage: Format) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    weight = np.arange(1, 37, dtype=np.float32).reshape(6, 6)
    return storage.encode(weight, np.ones((6, 6), bool), (1, 1)), (6, 6)


@indexed
@pytest.mark.parametrize(
    ("array", "position", "value"),
    [
        ("indices", 3, 6), ("indices", 3, 2), ("indices", 3, 1), ("indices", 3, 65_535),
        ("indptr", 0, 1), ("indptr", -1, 35), ("indptr", 2, 40), ("indptr", 2, -5), ("indptr", 3, 5),
    ],
)  # fmt: skip
def test_full_check_rejects_a_single_wrong_number(name: str, array: str, position: int, value: int) -> None:
    storage = FORMATS.get(name)
    arrays, shape = _sample(storage)
    arrays[array][position] = value
    with pytest.raises(FormatError):
        storage.check(arrays, shape, full=True)
    with pytest.raises(FormatError):
        storage.decode(arrays, shape)


@indexed
def test_indptr_that_overflows_32_bits_is_refused(name: str) -> None:
    weight = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    arrays = FORMATS.get(name).encode(weight, weight < 3)
    arrays["indptr"] = np.array([0, 2**31 - 1, -2, 2], np.int32)
    with pytest.raises(FormatError, match="indptr falls"):
        FORMATS.get(name).check(arrays, weight.shape, full=True)


@indexed
@pytest.mark.parametrize("array", ["indices", "indptr"])
def test_cheap_check_rejects_wrong_dtypes_and_lengths(name: str, array: str) -> None:
    storage = FORMATS.get(name)
    arrays, shape = _sample(storage)
    for broken in (arrays[array].astype(np.int64), arrays[array][:-1], arrays[array][:, None]):
        with pytest.raises(FormatError, match=array):
            storage.check({**arrays, array: broken}, shape)


@every
def test_more_entries_than_indptr_can_count_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FORMATS.get(name)
    kept = np.ones((2, 3), bool)
    monkeypatch.setattr("aerogel.sparse.format._MAX_ENTRIES", 6)
    arrays = storage.encode(np.ones((2, 3), np.float32), kept)
    assert storage.for_kernels(arrays, (2, 3))["indptr"].tolist() == [0, 3, 6]
    monkeypatch.setattr("aerogel.sparse.format._MAX_ENTRIES", 5)
    with pytest.raises(FormatError, match="6 entries exceed 5, the limit of indptr"):
        storage.encode(np.ones((2, 3), np.float32), kept)


@every
def test_mask_of_another_shape_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="does not match weight"):
        FORMATS.get(name).encode(np.ones((2, 2), np.float32), np.ones((2, 3), bool))


@every
def test_unknown_format_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown format 'cssr'.*{name}"):
        FORMATS.get("cssr")
