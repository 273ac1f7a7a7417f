from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel import checkpoint
from aerogel.cost import cache
from aerogel.cost.machine import this_machine
from aerogel.cost.model import CostModel
from aerogel.cost.predict import Form
from aerogel.export.config import ExportConfig
from aerogel.export.plan import make_plan
from aerogel.export.prediction import predicted
from aerogel.export.report import speed_table, verdict
from aerogel.export.run import export
from aerogel.system.cache import CACHE_VARIABLE

Checkpoints = Callable[..., Path]
Calibrations = Callable[..., CostModel]
COSTS = {"place": 4e-9, "dense": (0, 0, 0, 1e-9)}  # breaks even at a quarter


@pytest.fixture
def calibrated(made_up: Calibrations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CostModel:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    made = made_up(host=this_machine(1), **COSTS)
    cache.save(made)
    return made


def exported(checkpoint: Path, folder: Path, **options: Any) -> dict[str, Any]:
    document = export(ExportConfig(checkpoint, folder / "model.onnx", **options))
    assert json.loads((folder / "model.manifest.json").read_text())["prediction"] == document["prediction"]
    return document


def test_an_export_predicts_its_speed_and_says_so(
    capture_once: Checkpoints, calibrated: CostModel, tmp_path: Path
) -> None:
    document = exported(capture_once("bert", density=0.1), tmp_path / "out")
    prediction = document["prediction"]
    assert prediction["fused"]
    assert prediction["calibration"]["cpu"] == calibrated.host.cpu
    assert prediction["encoder"]["ratio"] > 1
    assert list(prediction["matrices"]) == list(document["matrices"])
    for name, matrix in document["matrices"].items():
        assert prediction["matrices"][name]["break_even"] == pytest.approx(0.25, abs=1e-4)
        assert matrix["why"] == "at most 25% stored"
    assert speed_table(document) is not None
    assert "pruned linear layers: predicted" in verdict(document)
    assert "encoder, fused: predicted" in verdict(document)


def test_without_a_calibration_it_says_how_to_make_one(
    capture_once: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    document = exported(capture_once("bert", density=0.1), tmp_path / "out")
    assert set(document["prediction"]) == {"why"}
    assert "speed not predicted: this machine has no calibration" in verdict(document)
    assert "run `aerogel calibrate`" in verdict(document)
    assert speed_table(document) is None
    assert {matrix["why"] for matrix in document["matrices"].values()} == {"at most 50% stored"}


@pytest.mark.usefixtures("calibrated")
@pytest.mark.parametrize(
    ("options", "why"), [({"format": "dense"}, "nothing is packed"), ({"inline": True}, "no kernel")]
)
def test_what_no_kernel_multiplies_has_no_prediction(
    capture_once: Checkpoints, tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    document = exported(capture_once("bert", density=0.1), tmp_path / "out", **options)
    assert why in document["prediction"]["why"]


def test_a_damaged_calibration_stops_no_export(
    capture_once: Checkpoints, calibrated: CostModel, tmp_path: Path
) -> None:
    path = cache.path_of(calibrated.host)
    path.write_text("{")
    document = exported(capture_once("bert", density=0.1), tmp_path / "out")
    assert str(path) in document["prediction"]["why"]


def test_the_calibration_decides_unless_a_limit_is_given(
    tiny_checkpoint: Checkpoints, made_up: Calibrations
) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=0.3))
    formats = {
        limit: {
            choice.format
            for choice in make_plan(loaded, "csr", None, limit, calibration=made_up(**COSTS)).values()
        }
        for limit in (None, 0.35)
    }
    assert formats == {None: {"dense"}, 0.35: {"csr"}}
    assert {choice.format for choice in make_plan(loaded, "csr").values()} == {"csr"}


def test_eight_bit_matrices_that_do_not_pay_are_predicted_as_they_are_stored(
    tiny_checkpoint: Checkpoints, made_up: Calibrations
) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=0.3))
    calibration = made_up(**COSTS)
    plan = make_plan(loaded, "csr", None, 0.2, "int8", calibration)
    assert {choice.format for choice in plan.values()} == {"bsr"}
    found = predicted(calibration, plan, loaded.path, Form(fused=True))
    sizes = sum(choice.weight.size for choice in plan.values())
    assert found["linear"]["stored_us"] == pytest.approx(sizes * 4e-3)
