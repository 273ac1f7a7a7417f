from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from aerogel.cost.model import CostModel, EncoderShape
from aerogel.cost.packed_shape import PackedShape

CostModels = Callable[..., CostModel]
CSR = PackedShape((100, 50), "fp32", 1, 0.2, 0.2, 1, 3, 1)
INT8 = PackedShape((64, 32), "int8", 1, 0.5, 0.2, 1, 3, 1)


def test_packed_product_is_the_sum_of_its_costs(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model(overhead=(7, 2, 3, 1000, 5), slot=10)
    # 7 + 2*50 + 3*100 + 5*3 row lengths + 10 for each of 20% of 5000 slots; out = 100 is not a multiple of 1024
    assert cost_model.packed_seconds(CSR, 16) == pytest.approx(7 + 100 + 300 + 15 + 10_000)
    assert cost_model.packed_seconds(CSR, 16, fused=True) == pytest.approx(15 + 10_000)
    page = replace(CSR, shape=(2048, 50))
    assert cost_model.packed_seconds(page, 16) == pytest.approx(
        7 + 100 + 3 * 2048 + 1000 * 2048 + 15 + 10 * 0.2 * 102_400
    )


@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.05, 0.15, 0.3, 0.7, 1.0])
def test_slot_costs_are_interpolated_between_measured_fractions(
    fake_cost_model: CostModels, fraction: float
) -> None:
    assert fake_cost_model().packed_seconds(replace(CSR, slot_fraction=fraction), 16) == pytest.approx(
        5000 * fraction
    )


def test_total_bytes_select_cache_and_dram_costs(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model(dram=3)
    cached = cost_model.packed_seconds(CSR, 16, total_bytes=4e6)
    assert cached == pytest.approx(1000)
    assert cost_model.packed_seconds(CSR, 16, total_bytes=0) == pytest.approx(cached)
    # 16 MB is the geometric mean of 4 and 64 MB.
    assert cost_model.packed_seconds(CSR, 16, total_bytes=16e6) == pytest.approx(2 * cached)
    assert cost_model.packed_seconds(CSR, 16, total_bytes=64e6) == pytest.approx(3 * cached)
    assert (
        cost_model.packed_seconds(CSR, 16)
        == cost_model.packed_seconds(CSR, 16, total_bytes=1e9)
        == pytest.approx(3 * cached)
    )


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
def test_packed_products_round_tokens_up_to_vectors_and_tiles(
    fake_cost_model: CostModels, tokens: int, charged: int
) -> None:
    # Time is proportional to tokens, also beyond 256, the largest measured number.
    assert fake_cost_model(growth=lambda n: n / 16).packed_seconds(CSR, tokens) == pytest.approx(
        1000 * charged / 16
    )


def test_dense_products_do_not_round_tokens(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model(dense=(5, 2, 3, 0.5), growth=lambda n: n / 16)
    assert cost_model.dense_seconds((100, 50), 24) == pytest.approx((5 + 100 + 300 + 2500) * 24 / 16)
    assert cost_model.dense_seconds((100, 50), 2048) == pytest.approx((5 + 100 + 300 + 2500) * 2048 / 16)


def test_time_does_not_fall_beyond_the_measured_tokens(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model(growth=lambda n: 1 / n)
    assert cost_model.dense_seconds((10, 10), 5000) == cost_model.dense_seconds((10, 10), 256)


def test_break_even_is_where_packed_and_dense_times_meet(fake_cost_model: CostModels) -> None:
    # Dense: 2 an entry. Packed: 4 a slot and 1 for each of 100 rows. 4 s 5000 + 100 = 2 * 5000
    cost_model = fake_cost_model(overhead=(0, 0, 1, 0, 0), slot=4, dense=(0, 0, 0, 2))
    assert cost_model.break_even(CSR, 128) == pytest.approx(9900 / 20_000, abs=1e-5)
    even = cost_model.break_even(CSR, 128)
    assert cost_model.packed_seconds(CSR.with_stored_fraction(even), 128) <= cost_model.dense_seconds(
        CSR.shape, 128
    )
    assert cost_model.packed_seconds(CSR.with_stored_fraction(even + 1e-5), 128) > cost_model.dense_seconds(
        CSR.shape, 128
    )


def test_break_even_is_1_if_packing_always_pays_and_0_if_never(fake_cost_model: CostModels) -> None:
    assert fake_cost_model(slot=1, dense=(0, 0, 0, 2)).break_even(CSR, 128) == 1
    assert fake_cost_model(overhead=(1e6, 0, 0, 0, 0)).break_even(CSR, 128) == pytest.approx(0, abs=1e-5)


def test_int8_break_even_is_against_all_entries_stored_in_blocks(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model()
    low = [[2 * cost for cost in row] for row in cost_model.cache_resident["int8-1"]]
    cost_model = replace(cost_model, dram_resident={**cost_model.dram_resident, "int8-1": low})
    assert cost_model.unpacked_seconds(INT8, 16) == pytest.approx(64 * 32)
    # Slots of single rows cost twice as much as those of blocks, so half of them may be stored: 1 - (1 - s)^4 = 1/2
    assert cost_model.break_even(INT8, 16) == pytest.approx(1 - 0.5**0.25, abs=1e-5)


def test_non_gemm_ops_of_a_layer(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model(non_gemm={"dense": [7, 1, 10, 100, 1000], "fp32": [0] * 5, "int8": [0] * 5})
    shape = EncoderShape(layers=2, hidden=8, inner=16, heads=4)

    def expected(tokens: int, scores: int) -> int:
        return 7 + tokens * 8 + 10 * tokens * 16 + 100 * scores * 8 + 1000 * scores * 4

    assert cost_model.non_gemm_seconds("dense", shape, 2, 3) == expected(6, 2 * 3 * 3)
    assert cost_model.non_gemm_seconds("dense", shape, 2, 3, queries=1) == expected(2, 2 * 3)


def test_layer_has_six_matrices() -> None:
    assert EncoderShape(1, 8, 32, 2).linears == [(8, 8)] * 4 + [(32, 8), (8, 32)]
