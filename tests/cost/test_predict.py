from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from aerogel.cost.model import CostModel, EncoderShape
from aerogel.cost.packed_shape import PackedShape
from aerogel.cost.predict import Entry, encoder_shape, predict, unknown
from aerogel.cost.report import table, verdict

CostModels = Callable[..., CostModel]
SHAPE = EncoderShape(layers=2, hidden=8, inner=32, heads=2)
LAYER_ENTRIES = 4 * 64 + 2 * 256
NON_GEMM = {"dense": [3e-3, 0, 0, 0, 0], "fp32": [1e-3, 0, 0, 0, 0], "int8": [2e-3, 0, 0, 0, 0]}


def entries(packed: Callable[[int], bool] = lambda _: True, weights: str = "fp32") -> dict[str, Entry]:
    found = {}
    for layer in range(SHAPE.layers):
        for number, shape in enumerate(SHAPE.linears):
            name = f"bert.encoder.layer.{layer}.{number}.weight"
            found[name] = Entry(shape, PackedShape(shape, weights, 1, 0.1, 0.1, 1, 0, 1), packed(number))
    return found


def test_totals_add_products_and_non_gemm_ops(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model(
        overhead=(1e-6, 0, 0, 0, 0), slot=1e-7, dense=(0, 0, 0, 1e-7), non_gemm=NON_GEMM
    )
    found = predict(cost_model, entries(), SHAPE, fused=True)
    assert json.loads(json.dumps(found)) == found
    dense = 2 * LAYER_ENTRIES * 0.1
    assert found["linear"]["dense_us"] == pytest.approx(dense)
    assert found["linear"]["stored_us"] == pytest.approx(dense * 0.1)  # no layout cost inside a fused encoder
    assert found["linear"]["ratio"] == pytest.approx(10)
    assert found["encoder"]["dense_us"] == pytest.approx(dense + 2 * 3000)
    assert found["encoder"]["stored_us"] == pytest.approx(dense * 0.1 + 2 * 1000)
    matrix = found["matrices"]["bert.encoder.layer.0.4.weight"]
    assert matrix["packed_us"] == pytest.approx(1 + 2.56)  # a layer of its own has the layout cost
    assert matrix["dense_us"] == pytest.approx(25.6)
    assert matrix["break_even"] == pytest.approx(1 - 1 / 25.6, abs=1e-5)


def test_unfused_encoder_has_layout_costs_and_dense_non_gemm_ops(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model(
        overhead=(1e-6, 0, 0, 0, 0), slot=1e-7, dense=(0, 0, 0, 1e-7), non_gemm=NON_GEMM
    )
    found = predict(cost_model, entries(), SHAPE, fused=False)
    assert found["linear"]["stored_us"] == pytest.approx(2 * LAYER_ENTRIES * 0.01 + 12)
    assert found["encoder"]["stored_us"] == pytest.approx(2 * LAYER_ENTRIES * 0.01 + 12 + 2 * 3000)


def test_dense_matrices_count_as_dense(fake_cost_model: CostModels) -> None:
    cost_model = fake_cost_model(slot=1e-7, dense=(0, 0, 0, 1e-7), non_gemm=NON_GEMM)
    found = predict(cost_model, entries(lambda number: number < 4), SHAPE, fused=True)
    assert found["linear"]["stored_us"] == pytest.approx(2 * (4 * 64 * 0.01 + 512 * 0.1))
    assert found["matrices"]["bert.encoder.layer.0.4.weight"]["packed_us"] == pytest.approx(2.56)


def test_int8_encoder_has_its_own_non_gemm_costs(fake_cost_model: CostModels) -> None:
    found = predict(fake_cost_model(slot=0, non_gemm=NON_GEMM), entries(weights="int8"), SHAPE, fused=True)
    assert found["encoder"]["stored_us"] == pytest.approx(2 * 2000)


def test_first_token_only_shortens_the_last_layer(fake_cost_model: CostModels) -> None:
    # Time is proportional to tokens. 128 tokens are 8 vectors; the first token counts as one vector of 16.
    cost_model = fake_cost_model(slot=1e-7, dense=(0, 0, 0, 0), non_gemm=NON_GEMM, growth=lambda n: n / 128)
    found = predict(cost_model, entries(), SHAPE, fused=True, first_token_only=True)
    first = LAYER_ENTRIES * 0.01
    squares, others = 4 * 64 * 0.01, 512 * 0.01
    last = squares * (1 + 1 / 8) / 2 + others / 8
    assert found["encoder"]["stored_us"] == pytest.approx(first + last + 2 * 1000)


@pytest.mark.parametrize(
    ("shape", "chosen", "reason"),
    [(None, entries(), "is unknown"), (SHAPE, dict(list(entries().items())[1:]), "not exactly the six")],
)
def test_unknown_encoder_is_not_predicted(
    fake_cost_model: CostModels, shape: EncoderShape | None, chosen: dict[str, Entry], reason: str
) -> None:
    found = predict(fake_cost_model(), chosen, shape, fused=True)
    assert found["encoder"] is None
    assert reason in found["encoder_reason"]
    assert f"encoder not predicted: {found['encoder_reason']}" in verdict(found)


def test_matrix_that_was_never_packed_has_no_break_even(fake_cost_model: CostModels) -> None:
    found = predict(fake_cost_model(), {"a.0.w": Entry((8, 8), None, False)}, None, fused=False)
    assert found["matrices"]["a.0.w"] == {"packed_us": None, "dense_us": 128e6, "break_even": None}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {
                "num_hidden_layers": 12,
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_attention_heads": 12,
            },
            EncoderShape(12, 768, 3072, 12),
        ),
        ({"n_layers": 6, "dim": 768, "hidden_dim": 3072, "n_heads": 12}, EncoderShape(6, 768, 3072, 12)),
        ({}, None),
    ],
)
def test_encoder_shape_reads_the_config(config: dict[str, Any], expected: EncoderShape | None) -> None:
    assert encoder_shape(config) == expected
    for name in config:
        for value in (0, -1, True, 1.5, "12", None, 2**40, [12]):
            assert encoder_shape({**config, name: value}) is None
    assert encoder_shape({**config, "num_hidden_groups": 1}) is None
    assert encoder_shape({**config, "relative_attention": True}) is None


def test_report_groups_the_same_matrix_of_all_layers(fake_cost_model: CostModels) -> None:
    chosen = entries()
    found = predict(
        fake_cost_model(slot=1e-7, dense=(0, 0, 0, 1e-7), non_gemm=NON_GEMM), chosen, SHAPE, fused=True
    )
    rows = table(found, {name: entry.shape for name, entry in chosen.items()})
    assert rows is not None
    cells = list(zip(*(column.cells for column in rows.columns), strict=True))
    assert cells[4] == ("4", "32x8", "2", "3", "26", "100%")
    assert "batch 1, 128 tokens, 1 thread" in str(rows.title)
    lines = verdict(found).splitlines()
    assert lines[0].startswith(
        "pruned linear layers: predicted 0.0154 ms, 10.00 times as fast as dense (0.154 ms)"
    )
    assert lines[1].startswith("encoder, fused: predicted 2.02 ms, 3.05 times as fast as dense (6.15 ms)")
    assert lines[1].endswith("calibrated 2026-01-02")


def test_report_gives_the_reason_of_a_missing_prediction() -> None:
    assert table(unknown("for a reason"), {}) is None
    assert verdict(unknown("for a reason")) == "speed not predicted: for a reason"
