from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from aerogel.cost.model import CostModel, EncoderShape
from aerogel.cost.packed_shape import PackedShape
from aerogel.cost.predict import Entry, Form, Workload, encoder_shape, predict, unknown
from aerogel.cost.report import table, verdict

Calibrations = Callable[..., CostModel]
SHAPE = EncoderShape(layers=2, hidden=8, inner=32, heads=2)
PLACES = 4 * 64 + 2 * 256  # of a layer
REST = {"dense": [3e-3, 0, 0, 0, 0], "fp32": [1e-3, 0, 0, 0, 0], "int8": [2e-3, 0, 0, 0, 0]}


def entries(packed: Callable[[int], bool] = lambda _: True, weights: str = "fp32") -> dict[str, Entry]:
    found = {}
    for layer in range(SHAPE.layers):
        for number, shape in enumerate(SHAPE.linears):
            name = f"bert.encoder.layer.{layer}.{number}.weight"
            found[name] = Entry(shape, PackedShape(shape, weights, 1, 0.1, 0.1, 1, 0, 1), packed(number))
    return found


def test_totals_are_sums_of_products_and_of_the_rest(made_up: Calibrations) -> None:
    calibration = made_up(edges=(1e-6, 0, 0, 0, 0), place=1e-7, dense=(0, 0, 0, 1e-7), rest=REST)
    found = predict(calibration, entries(), SHAPE, Form(fused=True))
    assert json.loads(json.dumps(found)) == found
    dense = 2 * PLACES * 0.1
    assert found["linear"]["dense_us"] == pytest.approx(dense)
    assert found["linear"]["stored_us"] == pytest.approx(dense * 0.1)  # no edges inside a fused encoder
    assert found["linear"]["ratio"] == pytest.approx(10)
    assert found["encoder"]["dense_us"] == pytest.approx(dense + 2 * 3000)
    assert found["encoder"]["stored_us"] == pytest.approx(dense * 0.1 + 2 * 1000)
    matrix = found["matrices"]["bert.encoder.layer.0.4.weight"]
    assert matrix["packed_us"] == pytest.approx(1 + 2.56)  # an operator of its own has its edges
    assert matrix["dense_us"] == pytest.approx(25.6)
    assert matrix["break_even"] == pytest.approx(1 - 1 / 25.6, abs=1e-5)


def test_without_fusion_edges_and_the_runtimes_own_layers_count(made_up: Calibrations) -> None:
    calibration = made_up(edges=(1e-6, 0, 0, 0, 0), place=1e-7, dense=(0, 0, 0, 1e-7), rest=REST)
    found = predict(calibration, entries(), SHAPE, Form(fused=False))
    assert found["linear"]["stored_us"] == pytest.approx(2 * PLACES * 0.01 + 12)
    assert found["encoder"]["stored_us"] == pytest.approx(2 * PLACES * 0.01 + 12 + 2 * 3000)


def test_what_is_stored_dense_takes_as_long_as_dense(made_up: Calibrations) -> None:
    calibration = made_up(place=1e-7, dense=(0, 0, 0, 1e-7), rest=REST)
    found = predict(calibration, entries(lambda number: number < 4), SHAPE, Form(fused=True))
    assert found["linear"]["stored_us"] == pytest.approx(2 * (4 * 64 * 0.01 + 512 * 0.1))
    assert found["matrices"]["bert.encoder.layer.0.4.weight"]["packed_us"] == pytest.approx(2.56)


def test_eight_bit_products_have_a_rest_of_their_own(made_up: Calibrations) -> None:
    found = predict(made_up(place=0, rest=REST), entries(weights="int8"), SHAPE, Form(fused=True))
    assert found["encoder"]["stored_us"] == pytest.approx(2 * 2000)


def test_of_the_last_layer_only_what_is_read_is_computed(made_up: Calibrations) -> None:
    # Time in proportion to tokens, 128 being 8 vectors: one token, of one sequence, is charged as one vector of 16.
    calibration = made_up(place=1e-7, dense=(0, 0, 0, 0), rest=REST, growth=lambda n: n / 128)
    found = predict(calibration, entries(), SHAPE, Form(fused=True, first_only=True), Workload(1, 1, 128))
    first = PLACES * 0.01
    squares, others = 4 * 64 * 0.01, 512 * 0.01
    last = squares * (1 + 1 / 8) / 2 + others / 8
    assert found["encoder"]["stored_us"] == pytest.approx(first + last + 2 * 1000)


@pytest.mark.parametrize(
    ("shape", "chosen", "why"),
    [(None, entries(), "no known shape"), (SHAPE, dict(list(entries().items())[1:]), "not all")],
)
def test_an_encoder_that_is_not_understood_is_not_predicted(
    made_up: Calibrations, shape: EncoderShape | None, chosen: dict[str, Entry], why: str
) -> None:
    found = predict(made_up(), chosen, shape, Form(fused=True))
    assert found["encoder"] is None
    assert why in found["encoder_why"]
    assert f"encoder not predicted: {found['encoder_why']}" in verdict(found)


def test_a_matrix_that_was_never_packed_has_no_break_even(made_up: Calibrations) -> None:
    found = predict(made_up(), {"a.0.w": Entry((8, 8), None, False)}, None, Form(fused=False))
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
def test_encoders_are_known_by_their_configuration(
    config: dict[str, Any], expected: EncoderShape | None
) -> None:
    assert encoder_shape(config) == expected
    for name in config:
        for value in (0, -1, True, 1.5, "12", None, 2**40, [12]):
            assert encoder_shape({**config, name: value}) is None
    assert encoder_shape({**config, "num_hidden_groups": 1}) is None
    assert encoder_shape({**config, "relative_attention": True}) is None


def test_the_report_has_a_row_for_the_same_matrix_of_all_layers(made_up: Calibrations) -> None:
    chosen = entries()
    found = predict(made_up(place=1e-7, dense=(0, 0, 0, 1e-7), rest=REST), chosen, SHAPE, Form(fused=True))
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


def test_the_report_says_why_nothing_is_predicted() -> None:
    assert table(unknown("for a reason"), {}) is None
    assert verdict(unknown("for a reason")) == "speed not predicted: for a reason"
