from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aerogel.errors import FormatError, UsageError
from aerogel.sparse.masks import block_scores, expand_blocks, kept_count, pack, top_mask, top_masks, unpack

# Few distinct values, so that ties are the rule.
tied = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([-1, 0, 0.5, 2]),
)


@settings(deadline=None)  # a busy machine is no failure
@given(tied, st.data())
def test_exact_count_and_earliest_ties(scores: np.ndarray, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, scores.size))
    mask = top_mask(scores, keep)
    order = np.argsort(-scores.reshape(-1), kind="stable")[:keep]
    expected = np.zeros(scores.size, bool)
    expected[order] = True
    np.testing.assert_array_equal(mask.reshape(-1), expected)


@pytest.mark.parametrize("keep", [1, 3, 700, 30_000, 69_000, 99_998, 99_999])
@pytest.mark.parametrize("kind", ["normal", "ties", "ascending", "equal", "period of the sample", "infinite"])
def test_large_matrices_are_ranked_exactly(kind: str, keep: int) -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    if kind == "ties":
        values = values.round(1)
    elif kind == "ascending":
        values.sort()
    elif kind == "equal":
        values[:] = 3
    elif kind == "period of the sample":
        values = np.where(np.arange(100_000) % (100_000 // 4096) == 0, 10 + values, values)
    elif kind == "infinite":
        values[::3], values[1::3] = np.inf, -np.inf
    expected = np.zeros(values.size, bool)
    expected[np.argsort(-values, kind="stable")[:keep]] = True
    np.testing.assert_array_equal(top_mask(values.reshape(100, 1000), keep).reshape(-1), expected)


@settings(deadline=None)  # a busy machine is no failure
@given(tied, st.data())
def test_torch_and_numpy_agree(scores: np.ndarray, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, scores.size))
    np.testing.assert_array_equal(top_mask(torch.from_numpy(scores), keep).numpy(), top_mask(scores, keep))


@pytest.mark.parametrize(
    "scores",
    [
        torch.tensor([0.1, 0.2], dtype=torch.float64),
        torch.tensor([2**24, 2**24 + 1], dtype=torch.int64),
        torch.tensor([0.5, 0.50390625], dtype=torch.bfloat16),
        torch.tensor([0.5, 0.50048828125], dtype=torch.float16),
    ],
)
def test_neighbours_in_any_precision_are_told_apart(scores: torch.Tensor) -> None:
    assert top_mask(scores, 1).tolist() == [False, True]


def test_nan_scores_are_refused() -> None:
    with pytest.raises(UsageError, match="NaN"):
        top_mask(np.array([[1.0, np.nan]]), 1)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan")])
def test_density_out_of_range(density: float) -> None:
    with pytest.raises(UsageError, match="must be above 0 and at most 1"):
        kept_count(density, 100)


def test_kept_count_rounds_half_up_and_keeps_one() -> None:
    assert [kept_count(d, 10) for d in (0.25, 0.24, 1e-9, 1.0)] == [3, 2, 1, 10]


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_blocks_by_hand(library: object) -> None:
    scores = library([[1.0, 2, 3, 4], [5, 6, 7, 8]])  # type: ignore[operator]
    np.testing.assert_array_equal(np.asarray(block_scores(scores, (2, 2))), [[14, 22]])
    mask = top_masks({"w": scores}, 0.5, (2, 2))["w"]
    np.testing.assert_array_equal(np.asarray(mask), [[0, 0, 1, 1]] * 2)
    np.testing.assert_array_equal(np.asarray(expand_blocks(mask[:1, ::2], (2, 2))), np.asarray(mask))


def test_global_scope_moves_the_budget_to_high_scores() -> None:
    scores = {"low": np.zeros((4, 4), np.float32), "high": np.ones((4, 4), np.float32)}
    local, joint = top_masks(scores, 0.5), top_masks(scores, 0.5, scope="global")
    assert [m.sum() for m in local.values()] == [8, 8]
    assert [m.sum() for m in joint.values()] == [0, 16]


def test_refusals_name_what_is_wrong() -> None:
    scores = {"layer.weight": np.zeros((6, 4), np.float32)}
    with pytest.raises(UsageError, match=r"4x1 does not divide layer\.weight of shape 6x4"):
        top_masks(scores, 0.5, (4, 1))
    with pytest.raises(UsageError, match="local, global"):
        top_masks(scores, 0.5, scope="both")


@settings(deadline=None)  # a busy machine is no failure
@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_pack_round_trip(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack(pack(mask), mask.shape), mask)


def test_packed_bytes_are_the_documented_ones() -> None:
    mask = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 1, 1]], bool)
    assert pack(mask).tolist() == [0b00001001, 0b11]


@pytest.mark.parametrize(
    "packed", [np.zeros(3, np.uint8), np.zeros(2, np.int8), np.array([0, 0b100], np.uint8)]
)
def test_unpack_refuses(packed: np.ndarray) -> None:
    with pytest.raises(FormatError, match="packed mask"):
        unpack(packed, (2, 5))
