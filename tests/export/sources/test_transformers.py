from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn.utils import prune

import aerogel
from aerogel.errors import AerogelError, CheckpointError, ExportError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.export.source import find_source

Checkpoint = Callable[..., Path]


def plain_folder(checkpoint: Path, folder: Path) -> Path:
    """A directory of transformers: a checkpoint without what Aerogel adds to it."""
    folder.mkdir()
    for file in checkpoint.iterdir():
        if file.name not in ("aerogel.json", "masks.safetensors"):
            shutil.copy(file, folder)
    return folder


def logits(model: Path) -> np.ndarray:
    ids = np.array([[1, 7, 9, 2], [1, 8, 2, 0]])
    feed = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64), "token_type_ids": ids * 0}
    return np.asarray(aerogel.session(model, threads=1).run(None, feed)[0])


def test_zeros_are_the_mask(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("bert", block=(4, 1))
    mine = export(ExportConfig(checkpoint, tmp_path / "mine" / "model.onnx"))
    document = export(
        ExportConfig(plain_folder(checkpoint, tmp_path / "plain"), tmp_path / "plain-out" / "model.onnx")
    )
    assert document["source"]["kind"] == "transformers"
    assert document["source"]["block"] == [4, 1]
    assert document["density"] == mine["density"]
    assert {name: m["arrays"] for name, m in document["matrices"].items()} == {
        name: m["arrays"] for name, m in mine["matrices"].items()
    }
    np.testing.assert_array_equal(
        logits(tmp_path / "mine" / "model.onnx"), logits(tmp_path / "plain-out" / "model.onnx")
    )


@pytest.mark.parametrize(("weights", "formats"), [("fp32", {"dense"}), ("int8", {"bsr"})])
def test_a_model_without_zeros_is_fused_and_verified(
    tiny_checkpoint: Checkpoint, tmp_path: Path, weights: str, formats: set[str]
) -> None:
    folder = plain_folder(tiny_checkpoint("bert", density=1), tmp_path / "dense")
    document = export(ExportConfig(folder, tmp_path / "out" / "model.onnx", weights=weights))
    assert {m["format"] for m in document["matrices"].values()} == formats
    assert {m["reason"] for m in document["matrices"].values()} == {"not pruned"}
    assert document["density"] == 1.0
    assert document["fusions"]["post-layernorm"]["layers"] == 2
    assert document["parity"]["onnxruntime"]["bundled"]["relative"] < 0.05


def test_pruning_left_in_place_counts(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = plain_folder(tiny_checkpoint("bert", density=1), tmp_path / "dense")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "layer" in name:
            prune.l1_unstructured(module, "weight", 0.9)
    model.save_pretrained(folder)
    document = export(ExportConfig(folder, tmp_path / "out" / "model.onnx"))
    assert document["density"] == pytest.approx(0.1, abs=0.01)
    ids = torch.tensor([[1, 7, 9, 2]])
    with torch.inference_mode():
        expected = model(input_ids=ids).logits.numpy()
    np.testing.assert_allclose(logits(tmp_path / "out" / "model.onnx")[:1], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (transformers.T5Config(d_model=8, d_ff=8, num_layers=1, num_heads=1, vocab_size=20), "T5"),
        (transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=20), "GPT2"),
        (transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1), "ViT"),
    ],
)
def test_what_is_not_a_text_encoder_is_named(tmp_path: Path, config: Any, message: str) -> None:
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "model")
    with pytest.raises(ExportError, match=message):
        export(ExportConfig(tmp_path / "model", tmp_path / "out" / "model.onnx"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder", "does not exist; give a directory"),
        ("missing.onnx", "does not exist; give a directory"),
        ("aerogel-tests/no-such-model", "cannot be had from the hub"),
    ],
)
def test_a_model_that_is_nowhere_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        export(ExportConfig(name, tmp_path / "out" / "model.onnx"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_model_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no config\.json"):
        find_source(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "nan", "missing"])
def test_damaged_weights_leave_nothing(tiny_checkpoint: Checkpoint, tmp_path: Path, damage: str) -> None:
    folder = plain_folder(tiny_checkpoint("bert", density=1), tmp_path / "model")
    file = folder / "model.safetensors"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "missing":
        file.unlink()
    else:
        from safetensors.torch import load_file, save_file

        tensors = load_file(file)
        next(value for name, value in tensors.items() if "query.weight" in name)[0, 0] = float("nan")
        save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError):
        export(ExportConfig(folder, tmp_path / "out" / "model.onnx"))
    assert not (tmp_path / "out").exists()


def test_a_config_without_architectures_is_the_model_without_a_head(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = plain_folder(tiny_checkpoint("bert", "", density=1), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    document = export(ExportConfig(folder, tmp_path / "out" / "model.onnx"))
    assert [output["name"] for output in document["outputs"]] == ["last_hidden_state"]


def test_token_embeddings_are_for_embedders(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(AerogelError, match="not a sentence-transformers model"):
        export(ExportConfig(tiny_checkpoint("bert"), tmp_path / "out" / "m.onnx", token_embeddings=True))
