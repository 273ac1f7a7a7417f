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

import aerogel
from aerogel.errors import AerogelError, ExportError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.hf.pooling import EmbeddingHead
from aerogel.hf.sentence_transformers import POOLINGS, Modules, Pooling, read_modules

Checkpoint = Callable[..., Path]
PREFIX = "sentence_transformers.models."


@pytest.fixture
def embedder(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Callable[..., Path]:
    """Factory of sentence-transformers directories: modules as (kind, folder, configuration)."""

    def make(*modules: tuple[str, str, dict[str, Any]], head: str = "", **files: Any) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        for file in tiny_checkpoint("bert", head, density=1).iterdir():
            if file.name not in ("aerogel.json", "masks.safetensors"):
                shutil.copy(file, folder)
        first = "MLMTransformer" if head else "Transformer"
        listed = [{"idx": 0, "name": "0", "path": "", "type": PREFIX + first}]
        for number, (kind, path, config) in enumerate(modules, 1):
            listed.append({"idx": number, "name": str(number), "path": path, "type": PREFIX + kind})
            (folder / path).mkdir(exist_ok=True)
            (folder / path / "config.json").write_text(json.dumps(config))
        (folder / "modules.json").write_text(json.dumps(listed))
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        return folder

    return make


TEXTS = ["a good film", "the", "this is a very long and bad story about a cat and a dog"]


def states(folder: Path, cls: Any = transformers.AutoModel) -> tuple[np.ndarray, np.ndarray]:
    """Token states (or logits) of TEXTS by PyTorch, and their mask."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        result = cls.from_pretrained(folder).eval()(**batch)
    return result[0].numpy().astype(np.float64), batch["attention_mask"].numpy()


def pooled(mode: str, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The definition of each pooling, a text at a time."""
    rows = []
    for row, real in zip(x, mask, strict=True):
        tokens = row[real == 1]
        n = len(tokens)
        weights = np.arange(1, n + 1)[:, None]
        rows.append(
            {
                "cls": tokens[0],
                "mean": tokens.mean(0),
                "max": tokens.max(0),
                "mean_sqrt_len": tokens.sum(0) / np.sqrt(n),
                "weighted_mean": (weights * tokens).sum(0) / weights.sum(),
                "last_token": tokens[-1],
            }[mode]
        )
    return np.array(rows)


@pytest.mark.parametrize("mode", POOLINGS)
def test_every_pooling_is_part_of_the_graph(embedder: Callable[..., Path], tmp_path: Path, mode: str) -> None:
    folder = embedder(("Pooling", "1_Pooling", {POOLINGS[mode]: True}))
    document = export(ExportConfig(folder, tmp_path / "out" / "model.onnx"))
    assert [output["name"] for output in document["outputs"]] == ["sentence_embedding"]
    found = aerogel.load(tmp_path / "out", threads=1).embed(TEXTS)
    np.testing.assert_allclose(found, pooled(mode, *states(folder)), atol=2e-4)


def test_dense_and_normalize_follow_the_pooling(embedder: Callable[..., Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    hidden = 32
    config = {
        "in_features": 2 * hidden,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.Tanh",
    }
    folder = embedder(
        ("Pooling", "1_Pooling", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}),
        ("Dense", "2_Dense", config),
        ("Normalize", "3_Normalize", {}),
        config_sentence_transformers={"prompts": {"query": "a good "}, "default_prompt_name": None},
        sentence_bert_config={"max_seq_length": 60},
    )
    x, mask = states(folder)
    assert x.shape[2] == hidden
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(8, 2 * hidden, generator=generator), torch.randn(8, generator=generator)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    document = export(ExportConfig(folder, tmp_path / "out" / "model.onnx"))
    assert document["max_length"] == 60
    assert document["head"] == {
        "kind": "embed", "output": "sentence_embedding", "dimensions": 8, "normalized": True,
        "prompts": {"query": "a good "}, "default_prompt": None,
    }  # fmt: skip
    both = np.concatenate([pooled("cls", x, mask), pooled("mean", x, mask)], 1)
    expected = np.tanh(both @ weight.numpy().T + bias.numpy())
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    model = aerogel.load(tmp_path / "out", threads=1)
    np.testing.assert_allclose(model.embed(TEXTS), expected, atol=1e-4)
    np.testing.assert_array_equal(model.embed(["film"], prompt="query"), model.embed(["a good film"]))


def test_token_states_come_on_request(embedder: Callable[..., Path], tmp_path: Path) -> None:
    folder = embedder(("Pooling", "1_Pooling", {"pooling_mode": "mean"}))
    document = export(ExportConfig(folder, tmp_path / "out" / "model.onnx", token_embeddings=True))
    assert [output["name"] for output in document["outputs"]] == ["sentence_embedding", "token_embeddings"]


def test_splade_weighs_the_vocabulary(embedder: Callable[..., Path], tmp_path: Path) -> None:
    folder = embedder(("SpladePooling", "1_SpladePooling", {"pooling_strategy": "max"}), head="MaskedLM")
    export(ExportConfig(folder, tmp_path / "out" / "model.onnx"))
    x, mask = states(folder, transformers.AutoModelForMaskedLM)
    expected = (np.log1p(np.maximum(x, 0)) * mask[:, :, None]).max(1)
    for (indices, values), row in zip(
        aerogel.load(tmp_path / "out", threads=1).embed_sparse(TEXTS), expected, strict=True
    ):
        dense = np.zeros(len(row))
        dense[indices] = values
        np.testing.assert_allclose(dense, row, atol=2e-4)


def test_without_pooling_each_token_has_a_vector(embedder: Callable[..., Path], tmp_path: Path) -> None:
    folder = embedder(("Normalize", "1_Normalize", {}))
    document = export(ExportConfig(folder, tmp_path / "out" / "model.onnx"))
    assert document["head"]["kind"] == "multi_vector"
    x, mask = states(folder)
    found = aerogel.load(tmp_path / "out", threads=1).embed_tokens(TEXTS)
    for row, real, vectors in zip(x, mask, found, strict=True):
        tokens = row[real == 1]
        np.testing.assert_allclose(vectors, tokens / np.linalg.norm(tokens, axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("padding", [0, 1, 5])
def test_padding_does_not_change_a_pooling(padding: int) -> None:
    x = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(1)) - 3
    wide = torch.cat([x, torch.full((1, padding, 4), 7.0)], 1)
    mask = torch.ones(1, 6 + padding, dtype=torch.int64)
    mask[:, 6:] = 0
    for mode in POOLINGS:
        head = EmbeddingHead(Modules(Path(), pooling=Pooling((mode,))))
        torch.testing.assert_close(head(wide, mask), head(x, mask[:, :6]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (
            [{"type": PREFIX + "Transformer", "path": ""}, {"type": PREFIX + "CLIPModel", "path": "x"}],
            "is CLIPModel",
        ),
        ([{"type": PREFIX + "WordEmbeddings", "path": ""}], "first module is WordEmbeddings"),
        ([{"type": PREFIX + "Transformer", "path": "../other"}], "outside of the model"),
        ([{"type": PREFIX + "Transformer", "path": "/etc"}], "outside of the model"),
        ([{"type": 3, "path": ""}], "must have a type and a path"),
        ([], "lists no modules"),
        ({}, "an object of 0 fields, not a list"),
    ],
)
def test_modules_that_are_not_known_are_named(tmp_path: Path, listed: Any, message: str) -> None:
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(AerogelError, match=message):
        read_modules(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "its pooling is not stated"),
        ({"pooling_mode": "attention"}, "'attention'"),
        ({"pooling_mode": 3}, "its pooling is not stated"),
    ],
)
def test_a_pooling_that_is_not_known_is_named(
    embedder: Callable[..., Path], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        read_modules(embedder(("Pooling", "1_Pooling", config)))
