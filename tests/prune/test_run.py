"""Pruning from a model and text to a checkpoint."""

from __future__ import annotations

import json
import random
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import aerogel
from aerogel.cli import main
from aerogel.errors import AerogelError
from aerogel.hf.encoder import prunable
from aerogel.prune.config import PruneConfig
from aerogel.prune.run import prune
from aerogel.sparse.masks import top_masks

Checkpoint = Callable[..., Path]


def sentence(draw: random.Random) -> list[str]:
    return [
        "".join(draw.choices(string.ascii_lowercase, k=draw.randint(1, 5))) for _ in range(draw.randint(4, 9))
    ]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """200 sentences of random words."""
    draw = random.Random(0)
    lines = [" ".join(sentence(draw)) for _ in range(200)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def dense(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Callable[..., Path]:
    """Factory of directories of unpruned models without a record."""

    def make(*args: Any, **kwargs: Any) -> Path:
        folder = tmp_path / "dense"
        shutil.copytree(tiny_checkpoint(*args, density=1, **kwargs), folder)
        for name in ("aerogel.json", "masks.safetensors"):
            (folder / name).unlink()
        return folder

    return make


def config(model: Path, text: Path, out: Path, /, **changes: Any) -> PruneConfig:
    return PruneConfig(**{"model": str(model), "text": (text,), "out": out, "density": 0.5} | changes)


def states(model: torch.nn.Module, folder: Path) -> torch.Tensor:
    """Last token states of sentences like those of `text`."""
    sentences = [" ".join(sentence(random.Random(seed))) for seed in range(100, 108)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    real = batch["attention_mask"].bool()
    with torch.inference_mode():
        return model(**batch, output_hidden_states=True).hidden_states[-1][real]


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "albert"])
def test_outputs_stay_nearer_than_by_magnitude(
    dense: Callable[..., Path], text: Path, tmp_path: Path, family: str
) -> None:
    model = dense(family)
    report = prune(config(model, text, tmp_path / "out"))
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    original, pruned, magnitude = load(model).eval(), load(tmp_path / "out").eval(), load(model).eval()
    for layer, mask in zip(
        prunable(magnitude).values(),
        top_masks(
            {name: layer.weight.detach().abs() for name, layer in prunable(magnitude).items()}, 0.5
        ).values(),
        strict=True,
    ):
        layer.weight.data.mul_(mask)
    wanted, found, other = (states(net, model) for net in (original, pruned, magnitude))
    assert (found - wanted).norm() < 0.8 * (other - wanted).norm()
    assert report.checkpoint.accounting.density == pytest.approx(0.5, abs=0.001)
    assert {matrix.name for matrix in report.matrices} == prunable(original).keys()


@pytest.mark.parametrize(("block", "scope"), [((4, 1), "local"), ((1, 1), "global"), ((1, 4), "global")])
def test_blocks_and_scopes(
    dense: Callable[..., Path], text: Path, tmp_path: Path, block: tuple[int, int], scope: str
) -> None:
    report = prune(config(dense(), text, tmp_path / "out", density=0.25, block=block, scope=scope))
    densities = {round(matrix.density, 3) for matrix in report.matrices}
    assert (len(densities) == 1) == (scope == "local")
    assert report.checkpoint.accounting.density == pytest.approx(0.25, abs=0.03)
    for mask in report.checkpoint.masks.values():
        tiles = mask.reshape(mask.shape[0] // block[0], block[0], mask.shape[1] // block[1], block[1])
        assert (tiles.any((1, 3)) == tiles.all((1, 3))).all()


def test_the_same_settings_give_the_same_bytes(
    dense: Callable[..., Path], text: Path, tmp_path: Path
) -> None:
    model = dense()
    for name in ("a", "b"):
        prune(config(model, text, tmp_path / name, threads=1))
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b


def test_an_embedder_stays_one_and_is_exported(
    dense: Callable[..., Path], text: Path, tmp_path: Path
) -> None:
    model = dense("bert", "")
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    listed = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, folder) in enumerate(kinds)
    ]
    (model / "modules.json").write_text(json.dumps(listed))
    prune(config(model, text, tmp_path / "out"))
    vectors = []
    for name, source in (("dense", model), ("pruned", tmp_path / "out")):
        manifest = aerogel.export_model(
            aerogel.ExportConfig(source, tmp_path / f"{name}.onnx" / "model.onnx")
        )
        assert manifest["head"]["kind"] == "embed"
        with aerogel.load(tmp_path / f"{name}.onnx", threads=1) as loaded:
            vectors.append(loaded.embed(["the film is good", "very bad"]))
    assert manifest["source"]["kind"] == "sentence-transformers"
    assert manifest["source"]["method"] == "one-shot"
    assert manifest["density"] == pytest.approx(0.5, abs=0.01)
    assert (np.sum(vectors[0] * vectors[1], 1) > 0.8).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 1.0}, "--density 1"),
        ({"density": float("nan")}, "--density nan"),
        ({"block": (5, 1)}, "block 5x1 does not divide"),
        ({"samples": 0}, "--samples 0"),
        ({"damping": 0.0}, "--damping 0"),
        ({"text": (Path("nowhere.txt"),)}, "nowhere.txt"),
        ({"model": "./nowhere"}, "nowhere"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_bad_settings_are_refused_and_nothing_is_written(
    dense: Callable[..., Path], text: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    model = dense()
    with pytest.raises(AerogelError, match=message):
        prune(config(model, text, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", ["", "one\n", "only a single sentence of words\n"], ids=["empty", "word", "line"]
)
def test_too_little_text_is_refused(dense: Callable[..., Path], tmp_path: Path, content: str) -> None:
    file = tmp_path / "short.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(AerogelError, match=r"short\.txt"):
        prune(config(dense(), file, tmp_path / "out"))


def test_the_model_itself_is_never_replaced(dense: Callable[..., Path], text: Path) -> None:
    model = dense()
    before = sorted(file.name for file in model.iterdir())
    with pytest.raises(AerogelError):
        prune(config(model, text, model))
    assert sorted(file.name for file in model.iterdir()) == before


def test_the_command_prints_the_errors(
    dense: Callable[..., Path], text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["prune", str(dense()), "--text", str(text), "--density", "0.02", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "attention.self.query" in printed
    assert "warning:" in printed  # hardly anything is left at this density
    assert (out / "aerogel.json").is_file()
