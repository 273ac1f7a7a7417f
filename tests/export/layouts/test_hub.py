from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import aerogel
from aerogel.errors import UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export

Checkpoint = Callable[..., Path]
TEXTS = ["a good film", "the bad one is not very good"]


@pytest.fixture
def embedder(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A sentence-transformers directory: mean pooling."""
    folder = tmp_path / "embedder"
    (folder / "1_Pooling").mkdir(parents=True)
    for file in tiny_checkpoint("bert", "", density=1, num_hidden_layers=1).iterdir():
        if file.name not in ("aerogel.json", "masks.safetensors"):
            shutil.copy(file, folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "the "}}')
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_files_are_where_the_hub_has_them(embedder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    document = export(ExportConfig(embedder, out, layout="hub", weights="int8"))
    assert names(out) == {
        "README.md", "config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json",
        "config_sentence_transformers.json", "onnx/model_sparse_int8.onnx", "onnx/model_sparse_int8.manifest.json",
    }  # fmt: skip
    # Other programs read the tokenizer too.
    assert (out / "tokenizer.json").read_bytes() == (embedder / "tokenizer.json").read_bytes()
    # optimum and sentence-transformers look for this name, and pool the states themselves.
    assert [value["name"] for value in document["outputs"]] == ["sentence_embedding", "last_hidden_state"]
    assert "pooled" not in document


def test_load_reads_the_layout_and_verifies_its_companions(embedder: Path, tmp_path: Path) -> None:
    out, flat = tmp_path / "out", tmp_path / "flat"
    export(ExportConfig(embedder, out, layout="hub"))
    export(ExportConfig(embedder, flat / "m.onnx"))
    model = aerogel.load(out, threads=1, verify=True)
    np.testing.assert_allclose(
        model.embed(TEXTS, prompt="query"),
        aerogel.load(flat, threads=1).embed(TEXTS, prompt="query"),
        atol=1e-5,
    )
    (out / "1_Pooling" / "config.json").write_text("{}")
    with pytest.raises(aerogel.ArtifactError, match=r"1_Pooling/config\.json differs from its SHA-256"):
        aerogel.load(out, threads=1, verify=True)


def test_two_exports_share_a_folder_and_a_card(embedder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(ExportConfig(embedder, out, layout="hub"))
    export(ExportConfig(embedder, out, layout="hub", weights="int8"))
    card = (out / "README.md").read_text()
    assert card.count("| `onnx/model_sparse.onnx` |") == card.count("| `onnx/model_sparse_int8.onnx` |") == 1
    assert card.startswith("---\nlibrary_name: sentence-transformers\n")
    with pytest.raises(UsageError, match=r"choose with name=: onnx/model_sparse, onnx/model_sparse_int8"):
        aerogel.load(out)
    assert aerogel.load(out, name="model_sparse_int8", threads=1).embed(TEXTS).shape == (2, 32)


def test_the_models_own_folder_gets_the_onnx_files_and_keeps_the_rest(embedder: Path) -> None:
    (embedder / "README.md").write_bytes(b"---\r\nlicense: mit\r\n---\r\nMine.\r\n")
    before = {name: (embedder / name).read_bytes() for name in names(embedder)}
    for _ in range(2):  # the second time over the first one's files
        export(ExportConfig(embedder, embedder, layout="hub"))
    added = names(embedder) - before.keys()
    assert added == {"onnx/model_sparse.onnx", "onnx/model_sparse.manifest.json"}
    changed = {name for name, content in before.items() if (embedder / name).read_bytes() != content}
    assert changed == {"README.md"}
    card = (embedder / "README.md").read_bytes()
    assert card.startswith(before["README.md"])
    assert card.count(b"<!-- aerogel: begin -->") == 1


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda out: (out / "config.json").write_text("{}"), r"config\.json exists and differs"),
        (lambda out: (out / "1_Pooling").mkdir() or (out / "1_Pooling" / "config.json").write_text("{}"),
         r"1_Pooling/config\.json exists and differs"),
        (lambda out: (out / "onnx").mkdir() or (out / "onnx" / "model_sparse.onnx").write_text("mine"),
         r"model_sparse\.onnx exists and is not from an earlier export"),
        (lambda out: (out / "README.md").write_text("<!-- aerogel: begin -->"), r"README\.md must have one"),
        (lambda out: (out / "README.md").write_bytes(b"\xff"), r"README\.md is not UTF-8"),
    ],
    ids=["config", "pooling", "model", "markers", "utf8"],
)  # fmt: skip
def test_files_of_the_user_are_not_replaced(
    embedder: Path,
    tmp_path: Path,
    prepare: Callable[[Path], object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    prepare(out)
    before = {name: (out / name).read_bytes() for name in names(out)}
    monkeypatch.setattr(
        "aerogel.export.torch_reference.load_embedder", lambda *_, **__: pytest.fail("loaded")
    )
    with pytest.raises(UsageError, match=message):
        export(ExportConfig(embedder, out, layout="hub"))
    assert {name: (out / name).read_bytes() for name in names(out)} == before


def test_a_checkpoints_own_folder_is_refused(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    for out in (checkpoint, checkpoint / "hub"):
        with pytest.raises(UsageError, match="inside the checkpoint directory"):
            export(ExportConfig(checkpoint, out, layout="hub"))
    with pytest.raises(UsageError, match="writes a folder"):
        export(ExportConfig(checkpoint, tmp_path / "m.onnx", layout="hub"))


def test_an_unknown_layout_lists_the_known_ones(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown layout 'hbu'"):
        export(ExportConfig(tiny_checkpoint(), tmp_path / "m.onnx", layout="hbu"))
