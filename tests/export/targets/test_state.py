"""Targets "safetensors" and "compressed-tensors", and both as sources."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from aerogel import cli
from aerogel.checkpoint.sparse_file import read_sparse_file
from aerogel.errors import AerogelError, ArtifactError, CheckpointError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.export.source import Subject, find_source
from aerogel.verify import verify_artifact

Checkpoint = Callable[..., Path]


@pytest.fixture
def checkpoint(tiny_checkpoint: Checkpoint) -> Path:
    return tiny_checkpoint("bert", num_hidden_layers=1)


def dense(folder: Path) -> dict[str, np.ndarray]:
    return dict(safetensors.numpy.load_file(folder / "model.safetensors"))


def loaded(path: Path) -> Subject:
    """A model as an export reads it; nothing is captured, which takes seconds."""
    return find_source(path).read(path)


@pytest.mark.parametrize("target", ["safetensors", "compressed-tensors"])
def test_a_model_survives_the_round_trip(checkpoint: Path, tmp_path: Path, target: str) -> None:
    out = tmp_path / "out" / "m.safetensors" if target == "safetensors" else tmp_path / "out"
    document = export(ExportConfig(checkpoint, out, target=target))
    file = out if target == "safetensors" else out / "model.safetensors"
    assert document["bytes"] == file.stat().st_size < (checkpoint / "model.safetensors").stat().st_size
    again = loaded(out)
    assert again.accounting.density == document["density"] == pytest.approx(0.1, abs=0.01)
    expected = loaded(checkpoint).load().parameters()
    found = again.load().parameters()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_every_parameter_is_in_the_file(checkpoint: Path, tmp_path: Path) -> None:
    export(ExportConfig(checkpoint, tmp_path / "out" / "m.safetensors", target="safetensors"))
    found = read_sparse_file(tmp_path / "out" / "m.safetensors")
    expected = dense(checkpoint)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "m.safetensors", "m.manifest.json", "config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_compressed_tensors_has_its_published_structure(checkpoint: Path, tmp_path: Path) -> None:
    """Twice, because the second export finds the first one's folder."""
    for _ in range(2):
        export(ExportConfig(checkpoint, tmp_path / "out", target="compressed-tensors"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    found = config.pop("quantization_config")
    assert config == json.loads((checkpoint / "config.json").read_text())
    assert found["quant_method"] == "compressed-tensors"
    assert found["sparsity_config"]["format"] == "sparse-bitmask"
    query = "bert.encoder.layer.0.attention.self.query"
    assert query in found["sparsity_config"]["targets"]
    tensors = dense(tmp_path / "out")
    weight = dense(checkpoint)[f"{query}.weight"]
    np.testing.assert_array_equal(tensors[f"{query}.compressed"], weight[weight != 0])
    assert f"{query}.weight" not in tensors
    assert f"{query}.bias" in tensors


def bitmask_folder(checkpoint: Path, folder: Path, dtype: torch.dtype = torch.float32, **config: Any) -> Path:
    """A transformers folder with one matrix in the layout, as compressed-tensors 0.10 writes it."""
    folder.mkdir()
    for file in checkpoint.iterdir():
        if file.name not in ("aerogel.json", "masks.safetensors"):
            shutil.copy(file, folder)
    tensors = {
        name: v.to(dtype) for name, v in safetensors.torch.load_file(folder / "model.safetensors").items()
    }
    name = "bert.encoder.layer.0.intermediate.dense"
    weight = tensors.pop(f"{name}.weight")
    mask = weight != 0
    bits = np.packbits(mask.numpy(), axis=-1, bitorder="little")
    counts = mask.sum(-1)
    tensors |= {
        f"{name}.shape": torch.tensor(weight.shape), f"{name}.compressed": weight[mask],
        f"{name}.bitmask": torch.from_numpy(bits), f"{name}.row_offsets": torch.cumsum(counts, 0) - counts,
    }  # fmt: skip
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    document = json.loads((folder / "config.json").read_text())
    document["quantization_config"] = {
        "quant_method": "compressed-tensors", "version": "0.10.2",
        "sparsity_config": {"format": "sparse-bitmask", "global_sparsity": 0.9, "sparsity_structure": "unstructured"},
    } | config  # fmt: skip
    (folder / "config.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_folders_of_the_package_are_sources(checkpoint: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    folder = bitmask_folder(checkpoint, tmp_path / "theirs", dtype)
    subject = loaded(folder)
    assert subject.kind == "transformers"
    assert subject.accounting.density == pytest.approx(0.1, abs=0.01)
    found, expected = subject.load().parameters(), dense(checkpoint)
    tolerance = {torch.float32: 0, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config_groups": {"group_0": {}}, "format": "int-quantized"}, "the layout 'int-quantized' of"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "the layout 'sparse-24-bitmask' of"),
    ],
)
def test_other_layouts_of_the_package_are_named(
    checkpoint: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = bitmask_folder(checkpoint, tmp_path / "theirs", **change)
    with pytest.raises(CheckpointError, match=message):
        export(ExportConfig(folder, tmp_path / "out" / "m.onnx"))


def test_a_damaged_matrix_is_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = bitmask_folder(checkpoint, tmp_path / "theirs")
    tensors = dense(folder)
    tensors["bert.encoder.layer.0.intermediate.dense.compressed"] = np.ones(3, np.float32)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layer\.0\.intermediate\.dense: compressed must have"):
        export(ExportConfig(folder, tmp_path / "out" / "m.onnx"))


def test_an_embedder_keeps_its_modules(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "embedder"
    shutil.copytree(tiny_checkpoint("bert", "", num_hidden_layers=1), folder)
    for name in ("aerogel.json", "masks.safetensors"):
        (folder / name).unlink()
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "modules.json").write_text(
        json.dumps([{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds])
    )
    out = tmp_path / "out" / "m.safetensors"
    export(ExportConfig(folder, out, target="safetensors", weights="int8"))
    document = json.loads((out.with_suffix(".manifest.json")).read_text())
    assert document["head"]["kind"] == "embed"
    found, expected = loaded(out), loaded(folder)
    assert found.details == expected.details
    batch = expected.load().tokenize(["a good film", "bad"])
    np.testing.assert_allclose(
        found.load().run(batch)["sentence_embedding"],
        expected.load().run(batch)["sentence_embedding"],
        atol=0.05,
    )


@pytest.mark.parametrize(
    ("target", "out", "options", "message"),
    [
        ("safetensors", "m.onnx", {}, "must name a file that ends in .safetensors"),
        ("safetensors", "model.safetensors", {}, "would load a file of this name as a dense model"),
        ("compressed-tensors", "m.safetensors", {}, "writes a folder"),
        ("compressed-tensors", "full", {}, "is not empty and not from an earlier export"),
        ("compressed-tensors", "out", {"weights": "int8"}, "--weights int8: sparse-bitmask stores"),
        ("safetensors", "m.safetensors", {"inline": True}, "--inline: --to safetensors writes parameters"),
        ("safetensors", "m.safetensors", {"embeddings": "int8"}, "--embeddings int8"),
        ("safetensors", "m.safetensors", {"layout": "hub"}, "--layout hub: not for this target"),
    ],
)
def test_what_is_not_possible_is_refused_before_the_work(
    checkpoint: Path, tmp_path: Path, target: str, out: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.json").write_text("mine")
    with pytest.raises(UsageError, match=message):
        export(ExportConfig(checkpoint, tmp_path / out, target=target, **options))
    assert (tmp_path / "full" / "config.json").read_text() == "mine"


def test_an_onnx_file_has_no_parameters_of_a_model(token_model: Callable[..., Path], tmp_path: Path) -> None:
    model = token_model("model/dense.onnx")
    with pytest.raises(UsageError, match=r"dense\.onnx is an \.onnx file"):
        export(ExportConfig(model, tmp_path / "out" / "m.safetensors", target="safetensors"))


@pytest.mark.parametrize("target", ["safetensors", "compressed-tensors"])
def test_verify_reads_every_matrix(
    checkpoint: Path, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    file = out / ("m.safetensors" if target == "safetensors" else "model.safetensors")
    export(ExportConfig(checkpoint, file if target == "safetensors" else out, target=target))
    checks = list(verify_artifact(out))
    assert [check.name for check in checks] == ["hashes", "structure"]
    assert checks[1].detail.startswith(f"{len(dense(checkpoint))} parameters follow")
    (out / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"config\.json differs"):
        list(verify_artifact(file))
    capsys.readouterr()
    assert cli.main(["verify", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_line_says_what_was_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.safetensors"
    assert cli.main(["export", str(checkpoint), "--to", "safetensors", "--out", str(out)]) == 0
    assert "read back: every parameter is equal" in capsys.readouterr().out


def test_a_file_that_is_not_sparse_is_not_a_source(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(AerogelError, match=r"model\.safetensors is not a model"):
        export(ExportConfig(checkpoint / "model.safetensors", tmp_path / "m.onnx"))
