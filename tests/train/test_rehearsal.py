"""Errors of saving and evaluating are found before the first step."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from aerogel import checkpoint
from aerogel.errors import CheckpointError, MissingExtraError, OutputError, TrainingError, UsageError
from aerogel.train import loop, rehearsal
from aerogel.train import run as run_module
from aerogel.train.run import TrainConfig, train

# Families whose parameter names in published files differ from those in the model of transformers.
RENAMED = ("nomic_bert", "gte", "jina_embeddings_v3")


@pytest.fixture
def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.Loop, "train_step", lambda *_: pytest.fail("a step was run"))


def no_files_remain(run: TrainConfig) -> bool:
    return not run.out.exists() and not [
        path for path in run.out.parent.iterdir() if "rehearsal" in path.name
    ]


@pytest.mark.parametrize("family", RENAMED)
def test_weights_and_masks_are_saved_under_same_names(
    config: Callable[..., TrainConfig], tmp_path: Path, tiny_checkpoint: Callable[..., Path], family: str
) -> None:
    if family not in transformers.CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {family}")
    given = renamed(family, tmp_path, tiny_checkpoint())
    made = train(config(model=str(given), epochs=1, train_rows=16, method="magnitude", warmup=0.0))
    assert made.masks
    stored = load_file(made.path / checkpoint.WEIGHTS_FILE)
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(made.path)
    for name, value in model.state_dict().items():
        assert torch.equal(stored[name], value), name
    for name, mask in made.masks.items():
        assert np.count_nonzero(mask) == round(0.25 * mask.size)
        assert not model.get_parameter(name).detach().numpy()[~mask].any()


def renamed(family: str, folder: Path, tokenizer: Path) -> Path:
    """A tiny model of a family, in the format in which it is published, with a tokenizer."""
    words = transformers.AutoTokenizer.from_pretrained(tokenizer)
    made = transformers.AutoConfig.for_model(
        family, vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=80, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(made)
    model.save_pretrained(folder / family)
    words.save_pretrained(folder / family)
    published = load_file(folder / family / "model.safetensors").keys()
    assert published != model.state_dict().keys()
    return folder / family


@pytest.mark.usefixtures("no_step")
def test_weight_saved_under_other_name_fails_before_first_step(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = transformers.PreTrainedModel.save_pretrained

    def rename(model: Any, folder: Path, **options: Any) -> None:
        tensors = {name.replace("query", "q"): value for name, value in model.state_dict().items()}
        save(model, folder, state_dict=tensors, **options)

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", rename)
    with pytest.raises(CheckpointError, match=r"query.weight has no weight in model.safetensors"):
        train(config())
    assert no_files_remain(config())


@pytest.mark.usefixtures("no_step")
def test_weight_changed_by_saving_fails_before_first_step(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = transformers.PreTrainedModel.save_pretrained

    def lose(model: Any, folder: Path, **options: Any) -> None:
        tensors = {
            name: value + 1.0 if name == "classifier.bias" else value
            for name, value in model.state_dict().items()
        }
        save(model, folder, state_dict=tensors, **options)

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", lose)
    with pytest.raises(
        CheckpointError, match=r"classifier.bias of BertFor\w+ changes when it is saved and loaded"
    ):
        train(config())
    assert no_files_remain(config())


@pytest.mark.usefixtures("no_step")
def test_too_little_disk_space_fails_before_first_step(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(rehearsal.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(
        OutputError, match=r": 1,000 bytes free after the checkpoint, and the state of the run needs"
    ):
        train(config(save_every=5))
    assert no_files_remain(config())


def test_run_without_saved_state_needs_no_space_for_it(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(rehearsal.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    assert train(config(epochs=1, method="dense", density=1.0, train_rows=16)).path.is_dir()


@pytest.mark.usefixtures("no_step")
def test_missing_metric_package_fails_before_first_step(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, _: str) -> None:
        raise MissingExtraError(f"{module} is not installed")

    monkeypatch.setattr("aerogel.data.metrics.require", missing)
    with pytest.raises(MissingExtraError, match=r"sklearn.metrics is not installed"):
        train(config())
    assert no_files_remain(config())


@pytest.mark.usefixtures("no_step")
def test_failing_evaluation_fails_before_first_step(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_finite(*_: Any) -> Any:
        raise TrainingError("the model's outputs are not finite")

    monkeypatch.setattr(rehearsal, "predict", not_finite)
    with pytest.raises(TrainingError, match="not finite"):
        train(config())


@pytest.mark.usefixtures("no_step")
def test_setting_without_json_value_fails_before_first_step(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_converted", lambda _: {"x": float("nan")})
    with pytest.raises((CheckpointError, UsageError), match="number that is not finite"):
        train(config())


def test_rehearsal_does_not_change_the_result(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = train(config("one", epochs=1)).path
    (one.parent / ".two.rehearsal").mkdir()
    (one.parent / ".two.rehearsal" / "left by a killed run").touch()
    two = train(config("two", epochs=1)).path
    monkeypatch.setattr(run_module, "rehearse_saving", lambda *_: None)
    monkeypatch.setattr(rehearsal, "predict", lambda *_: pytest.fail("rehearsed"))
    monkeypatch.setattr("aerogel.train.finetune.rehearse_evaluation", lambda *_: None)
    three = train(config("three", epochs=1)).path
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.MASKS_FILE):
        assert (one / name).read_bytes() == (two / name).read_bytes() == (three / name).read_bytes()
    assert not (one.parent / ".two.rehearsal").exists()
