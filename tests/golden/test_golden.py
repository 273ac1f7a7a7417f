"""Files of earlier schemas: this version reads them, and they give the outputs that they gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

import aerogel

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("*/outputs.safetensors"))
MODELS = [model.parent for folder in FOLDERS for model in sorted(folder.glob("*/model.onnx"))]
# Largest difference from the stored logits, by what the weights are stored as. With eight-bit weights the kernels round
# activations, which stock ONNX Runtime does not.
TOLERANCE = {"fp32": 1e-4, "int8": 0.06}


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def expected(model: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs, and the logits of a golden model."""
    arrays = load_file(model.parent / "outputs.safetensors")
    return {name: arrays[name] for name in arrays if "." not in name}, arrays[f"logits.{model.name}"]


def test_every_kind_has_a_golden_model() -> None:
    assert {model.name for model in MODELS} >= {"csr", "bsr", "int8", "fused", "fused-int8"}


@pytest.mark.parametrize("model", MODELS, ids=named)
def test_the_library_gives_the_stored_outputs(model: Path) -> None:
    feed, logits = expected(model)
    weights = json.loads((model / "model.manifest.json").read_text())["weights"]
    session = aerogel.session(model / "model.onnx", threads=1)
    assert np.abs(session.run(["logits"], feed)[0] - logits).max() < TOLERANCE[weights]


@pytest.mark.parametrize("model", MODELS, ids=named)
def test_stock_onnx_runtime_gives_the_stored_outputs(model: Path) -> None:
    feed, logits = expected(model)
    session = onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    assert np.abs(session.run(["logits"], feed)[0] - logits).max() < 1e-4


@pytest.mark.parametrize("model", MODELS, ids=named)
def test_texts_are_classified(model: Path) -> None:
    with aerogel.load(model, threads=1, verify=True) as loaded:
        (scores,) = loaded.classify(["the film is good"])
    assert sum(label.score for label in scores) == pytest.approx(1)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_checkpoint_is_read(folder: Path) -> None:
    stored = json.loads((folder / "checkpoint" / "aerogel.json").read_text())
    loaded = aerogel.load_checkpoint(folder / "checkpoint")
    assert loaded.accounting.density == stored["density"]
    assert {name: int(mask.sum()) for name, mask in loaded.masks.items()} == {
        name: matrix["kept"] for name, matrix in stored["matrices"].items()
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_checkpoint_is_exported(folder: Path, tmp_path: Path) -> None:
    feed, logits = expected(folder / "fused")
    out = tmp_path / "model.onnx"
    aerogel.export_model(aerogel.ExportConfig(folder / "checkpoint", out, format="csr"))
    assert np.abs(aerogel.session(out, threads=1).run(["logits"], feed)[0] - logits).max() < 1e-4
