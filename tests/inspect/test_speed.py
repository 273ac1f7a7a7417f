from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel.cost import cache
from aerogel.cost.machine import this_machine
from aerogel.inspect.sections import SECTIONS
from aerogel.inspect.subject import load
from aerogel.system.cache import CACHE_VARIABLE

Checkpoints = Callable[..., Path]


@pytest.fixture
def calibrated(fake_cost_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return cache.save(fake_cost_model(machine=this_machine(1), slot=4e-9, dense=(0, 0, 0, 1e-9)))


@pytest.mark.usefixtures("calibrated")
def test_prediction_uses_the_default_export(tiny_checkpoint: Checkpoints) -> None:
    found = SECTIONS.get("speed").analyse(load(tiny_checkpoint(density=0.1)))
    assert found is not None
    json.dumps(found.data, allow_nan=False)
    # Costs are a nanosecond for each of 8192 entries a layer dense, and four for one in ten packed.
    assert found.data["linear"]["dense_us"] == pytest.approx(2 * 8.192)
    assert found.data["linear"]["ratio"] == pytest.approx(2.5, rel=0.02)
    (table,) = found.tables
    assert [row[:2] for row in table.rows] == [
        [part, "csr"] for part in ("Q", "K", "V", "O", "FFN in", "FFN out")
    ]
    assert {row[5] for row in table.rows} == {"25%"}
    assert found.summary[0].startswith("pruned linear layers: predicted")
    assert found.summary[1].startswith("encoder, fused: predicted")


@pytest.mark.usefixtures("calibrated")
def test_slow_sparse_matrices_are_predicted_dense(tiny_checkpoint: Checkpoints) -> None:
    found = SECTIONS.get("speed").analyse(load(tiny_checkpoint(density=0.5)))
    assert found is not None
    assert {row[1] for row in found.tables[0].rows} == {"dense"}
    assert found.data["linear"]["ratio"] == pytest.approx(1)


def test_missing_cost_model_names_the_command(
    tiny_checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    found = SECTIONS.get("speed").analyse(load(tiny_checkpoint()))
    assert found is not None
    assert set(found.data) == {"reason"}
    (sentence,) = found.summary
    assert sentence.startswith("speed not predicted: ")
    assert "run `aerogel calibrate`" in sentence


def test_damaged_cost_model_is_reported_as_the_reason(tiny_checkpoint: Checkpoints, calibrated: Path) -> None:
    calibrated.write_text("[")
    found = SECTIONS.get("speed").analyse(load(tiny_checkpoint()))
    assert found is not None
    assert str(calibrated) in found.data["reason"]
