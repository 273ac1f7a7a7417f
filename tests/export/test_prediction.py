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
from aerogel.export.config import ExportConfig
from aerogel.export.plan import make_plan
from aerogel.export.prediction import EncoderForm, predicted
from aerogel.export.report import speed_table, verdict
from aerogel.export.run import export
from aerogel.system.cache import CACHE_VARIABLE

Checkpoints = Callable[..., Path]
CostModels = Callable[..., CostModel]
COSTS = {"slot": 4e-9, "dense": (0, 0, 0, 1e-9)}  # break-even: 25%


@pytest.fixture
def calibrated(fake_cost_model: CostModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CostModel:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    made = fake_cost_model(machine=this_machine(1), **COSTS)
    cache.save(made)
    return made


def exported(checkpoint: Path, folder: Path, **options: Any) -> dict[str, Any]:
    document = export(ExportConfig(checkpoint, folder / "model.onnx", **options))
    assert json.loads((folder / "model.manifest.json").read_text())["prediction"] == document["prediction"]
    return document


def test_export_predicts_and_reports_its_speed(
    capture_once: Checkpoints, calibrated: CostModel, tmp_path: Path
) -> None:
    document = exported(capture_once("bert", density=0.1), tmp_path / "out")
    prediction = document["prediction"]
    assert prediction["fused"]
    assert prediction["calibration"]["cpu"] == calibrated.machine.cpu
    assert prediction["encoder"]["ratio"] > 1
    assert list(prediction["matrices"]) == list(document["matrices"])
    for name, matrix in document["matrices"].items():
        assert prediction["matrices"][name]["break_even"] == pytest.approx(0.25, abs=1e-4)
        assert matrix["reason"] == "at most 25% stored"
    assert speed_table(document) is not None
    assert "pruned linear layers: predicted" in verdict(document)
    assert "encoder, fused: predicted" in verdict(document)


def test_export_without_calibration_says_how_to_calibrate(
    capture_once: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    document = exported(capture_once("bert", density=0.1), tmp_path / "out")
    assert set(document["prediction"]) == {"reason"}
    assert "speed not predicted: this machine has no calibration" in verdict(document)
    assert "run `aerogel calibrate`" in verdict(document)
    assert speed_table(document) is None
    assert {matrix["reason"] for matrix in document["matrices"].values()} == {"at most 50% stored"}


@pytest.mark.usefixtures("calibrated")
@pytest.mark.parametrize(
    ("options", "reason"), [({"format": "dense"}, "nothing is packed"), ({"inline": True}, "no kernel")]
)
def test_export_without_packed_kernels_is_not_predicted(
    capture_once: Checkpoints, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    document = exported(capture_once("bert", density=0.1), tmp_path / "out", **options)
    assert reason in document["prediction"]["reason"]


def test_export_ignores_a_damaged_calibration(
    capture_once: Checkpoints, calibrated: CostModel, tmp_path: Path
) -> None:
    path = cache.path_of(calibrated.machine)
    path.write_text("{")
    document = exported(capture_once("bert", density=0.1), tmp_path / "out")
    assert str(path) in document["prediction"]["reason"]


def test_max_density_overrides_the_calibrated_break_even(
    tiny_checkpoint: Checkpoints, fake_cost_model: CostModels
) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=0.3))
    formats = {
        limit: {
            choice.format
            for choice in make_plan(loaded, "csr", None, limit, calibration=fake_cost_model(**COSTS)).values()
        }
        for limit in (None, 0.35)
    }
    assert formats == {None: {"dense"}, 0.35: {"csr"}}
    assert {choice.format for choice in make_plan(loaded, "csr").values()} == {"csr"}


def test_int8_matrices_above_break_even_are_predicted_fully_stored(
    tiny_checkpoint: Checkpoints, fake_cost_model: CostModels
) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=0.3))
    calibration = fake_cost_model(**COSTS)
    plan = make_plan(loaded, "csr", None, 0.2, "int8", calibration)
    assert {choice.format for choice in plan.values()} == {"bsr"}
    found = predicted(calibration, plan, loaded.path, EncoderForm(fused=True))
    sizes = sum(choice.weight.size for choice in plan.values())
    assert found["linear"]["stored_us"] == pytest.approx(sizes * 4e-3)
