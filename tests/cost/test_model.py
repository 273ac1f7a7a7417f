from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from aerogel.cost.model import CostModel, EncoderShape
from aerogel.cost.packed_shape import PackedShape

Calibrations = Callable[..., CostModel]
CSR = PackedShape((100, 50), "fp32", 1, 0.2, 0.2, 1, 3, 1)
EIGHT_BIT = PackedShape((64, 32), "int8", 1, 0.5, 0.2, 1, 3, 1)


def test_a_product_is_the_sum_of_its_costs(made_up: Calibrations) -> None:
    calibration = made_up(edges=(7, 2, 3, 1000, 5), place=10)
    # 7 + 2*50 + 3*100 + 5*3 lengths, and 10 for each of the 20% of 5000 places; 100 is no multiple of a page
    assert calibration.packed(CSR, 16) == pytest.approx(7 + 100 + 300 + 15 + 10_000)
    assert calibration.packed(CSR, 16, edges=False) == pytest.approx(15 + 10_000)
    page = replace(CSR, shape=(2048, 50))
    assert calibration.packed(page, 16) == pytest.approx(
        7 + 100 + 3 * 2048 + 1000 * 2048 + 15 + 10 * 0.2 * 102_400
    )


@pytest.mark.parametrize("share", [0.0, 0.03, 0.05, 0.15, 0.3, 0.7, 1.0])
def test_places_cost_what_lies_between_the_shares_that_were_measured(
    made_up: Calibrations, share: float
) -> None:
    assert made_up().packed(replace(CSR, share=share), 16) == pytest.approx(5000 * share)


def test_weights_come_from_the_caches_from_memory_or_from_both(made_up: Calibrations) -> None:
    calibration = made_up(far=3)
    near = calibration.packed(CSR, 16, total=4e6)
    assert near == pytest.approx(1000)
    assert calibration.packed(CSR, 16, total=0) == pytest.approx(near)
    assert calibration.packed(CSR, 16, total=16e6) == pytest.approx(
        2 * near
    )  # the geometric middle of 4 and 64 MB
    assert calibration.packed(CSR, 16, total=64e6) == pytest.approx(3 * near)
    assert calibration.packed(CSR, 16) == calibration.packed(CSR, 16, total=1e9) == pytest.approx(3 * near)


@pytest.mark.parametrize(
    ("tokens", "charged"),
    [
        (1, 16),
        (16, 16),
        (17, 32),
        (33, 64),
        (64, 64),
        (65, 80),
        (97, 128),
        (128, 128),
        (300, 320),
        (1024, 1024),
    ],
)
def test_kernels_take_tokens_in_vectors_and_tiles(made_up: Calibrations, tokens: int, charged: int) -> None:
    # A time in proportion to tokens; beyond the most that was measured, 256, it goes on so.
    assert made_up(growth=lambda n: n / 16).packed(CSR, tokens) == pytest.approx(1000 * charged / 16)


def test_a_dense_product_takes_tokens_one_by_one(made_up: Calibrations) -> None:
    calibration = made_up(dense=(5, 2, 3, 0.5), growth=lambda n: n / 16)
    assert calibration.full((100, 50), 24) == pytest.approx((5 + 100 + 300 + 2500) * 24 / 16)
    assert calibration.full((100, 50), 2048) == pytest.approx((5 + 100 + 300 + 2500) * 2048 / 16)


def test_time_never_falls_beyond_what_was_measured(made_up: Calibrations) -> None:
    calibration = made_up(growth=lambda n: 1 / n)
    assert calibration.full((10, 10), 5000) == calibration.full((10, 10), 256)


def test_break_even_is_where_both_take_as_long(made_up: Calibrations) -> None:
    # Dense: 2 a place. Packed: 4 a place and 1 for each of 100 rows: 4 s 5000 + 100 = 10,000
    calibration = made_up(edges=(0, 0, 1, 0, 0), place=4, dense=(0, 0, 0, 2))
    assert calibration.break_even(CSR, 128) == pytest.approx(9900 / 20_000, abs=1e-5)
    even = calibration.break_even(CSR, 128)
    assert calibration.packed(CSR.at(even), 128) <= calibration.full(CSR.shape, 128)
    assert calibration.packed(CSR.at(even + 1e-5), 128) > calibration.full(CSR.shape, 128)


def test_break_even_is_all_where_packing_always_pays_and_none_where_never(made_up: Calibrations) -> None:
    assert made_up(place=1, dense=(0, 0, 0, 2)).break_even(CSR, 128) == 1
    assert made_up(edges=(1e6, 0, 0, 0, 0)).break_even(CSR, 128) == pytest.approx(0, abs=1e-5)


def test_eight_bit_entries_break_even_with_all_of_them_stored_in_blocks(made_up: Calibrations) -> None:
    calibration = made_up()
    low = [[2 * cost for cost in row] for row in calibration.near["int8-1"]]
    calibration = replace(calibration, far={**calibration.far, "int8-1": low})
    assert calibration.unpacked(EIGHT_BIT, 16) == pytest.approx(64 * 32)
    # Places of single rows cost twice as much, so half of them may be stored: 1 - (1 - s)^4 = 1/2
    assert calibration.break_even(EIGHT_BIT, 16) == pytest.approx(1 - 0.5**0.25, abs=1e-5)


def test_the_rest_of_a_layer(made_up: Calibrations) -> None:
    calibration = made_up(rest={"dense": [7, 1, 10, 100, 1000], "fp32": [0] * 5, "int8": [0] * 5})
    shape = EncoderShape(layers=2, hidden=8, inner=16, heads=4)

    def rest(tokens: int, pairs: int) -> int:
        return 7 + tokens * 8 + 10 * tokens * 16 + 100 * pairs * 8 + 1000 * pairs * 4

    assert calibration.layer_rest("dense", shape, 2, 3) == rest(6, 2 * 3 * 3)
    assert calibration.layer_rest("dense", shape, 2, 3, queries=1) == rest(2, 2 * 3)


def test_a_layer_has_six_matrices() -> None:
    assert EncoderShape(1, 8, 32, 2).linears == [(8, 8)] * 4 + [(32, 8), (8, 32)]
