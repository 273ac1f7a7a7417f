from __future__ import annotations

import itertools

import numpy as np
import pytest

from aerogel.inspect.statistic import Deviation, correlation, dispersion, overlap, total


def all_masks(rows: int, cols: int, kept: int) -> list[np.ndarray]:
    masks = []
    for kept_entries in itertools.combinations(range(rows * cols), kept):
        mask = np.zeros(rows * cols, bool)
        mask[list(kept_entries)] = True
        masks.append(mask.reshape(rows, cols))
    return masks


@pytest.mark.parametrize(("rows", "cols", "kept"), [(3, 3, 4), (2, 5, 3), (4, 3, 7), (3, 2, 1), (5, 2, 9)])
@pytest.mark.parametrize("axis", [0, 1])
def test_dispersion_moments_match_all_masks(rows: int, cols: int, kept: int, axis: int) -> None:
    masks = all_masks(rows, cols, kept)
    groups = (rows, cols)[axis]
    values = [float(((mask.sum(1 - axis) - kept / groups) ** 2).sum()) for mask in masks]
    for mask, value in zip(masks[::7], values[::7], strict=True):
        found = dispersion(mask, axis)
        assert found.observed == pytest.approx(value)
        assert found.expected == pytest.approx(np.mean(values))
        assert found.variance == pytest.approx(np.var(values), abs=1e-12)


def test_p_values_match_simulated_masks() -> None:
    random = np.random.default_rng(0)
    values, size, kept = [], (40, 30), 240
    for _ in range(2000):
        mask = random.permutation(np.arange(1200) < kept).reshape(size)
        values.append(dispersion(mask, 1).observed)
    null = dispersion(mask, 1)
    for quantile in (0.5, 0.9, 0.99):
        value = float(np.quantile(values, quantile))
        log10_p = Deviation(value, null.expected, null.variance).log10_p
        assert log10_p is not None
        assert 10**log10_p == pytest.approx(1 - quantile, abs=0.03, rel=0.5)


def test_mask_of_whole_columns_is_maximally_uneven() -> None:
    mask = np.zeros((8, 10), bool)
    mask[:, :2] = True
    columns, rows = dispersion(mask, 1), dispersion(mask, 0)
    # Two columns of 8 and eight of 0, about a mean of 1.6.
    assert columns.observed == pytest.approx(2 * 6.4**2 + 8 * 1.6**2)
    assert rows.observed == 0
    assert columns.z is not None
    assert rows.z is not None
    assert columns.z > 5
    assert rows.z < -1


@pytest.mark.parametrize("mask", [np.zeros((3, 4), bool), np.ones((3, 4), bool), np.ones((1, 1), bool)])
def test_only_possible_mask_has_no_z(mask: np.ndarray) -> None:
    found = dispersion(mask, 0)
    assert (found.ratio, found.z, found.log10_p) == (None, None, None)
    assert overlap(mask, mask).z is None


def test_overlap_moments_match_all_masks() -> None:
    fixed = np.array([[True, True, False], [True, False, False]])
    values = [int((fixed & mask).sum()) for mask in all_masks(2, 3, 2)]
    found = overlap(fixed, np.array([[True, False, True], [False, False, False]]))
    assert found.observed == 1
    assert found.expected == pytest.approx(np.mean(values))
    assert found.variance == pytest.approx(np.var(values))


def test_correlation_z_matches_all_permutations() -> None:
    a, b = np.array([0.1, 0.4, 0.2, 0.9, 0.3]), np.array([1.0, 2.0, 0.5, 4.0, 1.0])
    z = [correlation(a, np.array(order))[1] for order in itertools.permutations(b)]  # type: ignore[index]
    assert np.mean(z) == pytest.approx(0, abs=1e-12)
    assert np.var(z) == pytest.approx(1)
    found = correlation(a, b)
    assert found is not None
    assert found[0] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, np.ones(5)) is None


def test_total_sums_statistics() -> None:
    found = total([Deviation(3, 1, 4), Deviation(5, 4, 5)])
    assert (found.observed, found.expected, found.variance, found.z) == (8, 5, 9, 1)
    assert found.ratio == 1.6
