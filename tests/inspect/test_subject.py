from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.errors import CheckpointError, UsageError
from aerogel.hf.families import PARTS
from aerogel.inspect.subject import load


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_matrices_have_layer_and_part(tiny_checkpoint: Callable[..., Path], family: str) -> None:
    subject = load(tiny_checkpoint(family))
    assert [(m.layer, m.part) for m in subject.matrices] == [(n, part) for n in (0, 1) for part in PARTS]
    assert subject.heads == 2
    assert subject.parts == list(PARTS)
    assert [m.mask.shape for m in subject.of("FFN out")] == [(32, 64)] * 2


def test_unknown_matrices_use_their_module_names(tiny_checkpoint: Callable[..., Path]) -> None:
    subject = load(tiny_checkpoint("modernbert"))
    assert {"attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"} == set(subject.parts)


def test_checkpoints_that_cannot_be_inspected(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"has no masks \(its method is random\)"):
        load(tiny_checkpoint(density=1.0))
    with pytest.raises(CheckpointError, match="is not a directory"):
        load(tmp_path / "nothing")
    with pytest.raises(
        UsageError, match=r"--against .*mask of .*intermediate.dense.weight is 128x32, in .* it is 64x32"
    ):
        load(tiny_checkpoint(), against=tiny_checkpoint(intermediate_size=128))
    with pytest.raises(UsageError, match=r"mask of bert.* is missing, in"):
        load(tiny_checkpoint(), against=tiny_checkpoint("roberta"))


@pytest.mark.parametrize("text", ['{"num_attention_heads": "2"}', '{"num_attention_heads": -1}', "{}"])
def test_a_configuration_without_heads(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], reseal: Callable[[Path, str], None], text: str
) -> None:
    path = Path(shutil.copytree(tiny_checkpoint(), tmp_path / "copy"))
    (path / "config.json").write_text(text)
    reseal(path, "config.json")
    assert load(path).heads is None
    for damaged in ("{", "[1]"):
        (path / "config.json").write_text(damaged)
        reseal(path, "config.json")
        with pytest.raises(CheckpointError, match=r"config.json cannot be read as JSON"):
            load(path)


def test_weights_with_nan_are_rejected(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], reseal: Callable[[Path, str], None]
) -> None:
    from safetensors.numpy import load_file, save_file

    path = Path(shutil.copytree(tiny_checkpoint(), tmp_path / "copy"))
    subject = load(path)
    name = subject.matrices[3].name
    weights = load_file(path / "model.safetensors")
    row, col = subject.matrices[3].mask.nonzero()
    weights[name][row[0], col[0]] = float("nan")
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    reseal(path, "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{name} has NaN or infinite values"):
        list(load(path).weights())


def test_grid_has_one_entry_per_block(tiny_checkpoint: Callable[..., Path]) -> None:
    matrix = load(tiny_checkpoint(density=0.25, block=(4, 8))).matrices[0]
    assert matrix.grid.shape == (8, 4)
    assert matrix.grid.sum() == 8
    assert matrix.density == 0.25
    assert json.dumps(matrix.density)
