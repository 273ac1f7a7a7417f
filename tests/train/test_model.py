from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from aerogel.data.tasks import TASKS
from aerogel.errors import CheckpointError, OutputError, UsageError
from aerogel.hf import load as hf_load
from aerogel.train.model import load_model, save_model

LAYER = "bert.encoder.layer.0."


@pytest.fixture
def model_dir(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> Path:
    """A copy of a model that tests may modify."""
    return Path(shutil.copytree(tiny_checkpoint(density=1.0), tmp_path / "model_dir"))


def load(folder: Path, task: str = "sst2", max_length: int = 16) -> Any:
    return load_model(str(folder), TASKS.get(task), TASKS.get(task).labels, max_length, seed=0)[0]


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def without(*parts: str) -> Callable[[dict[str, torch.Tensor]], None]:
    """Function that removes the tensors whose names contain one of `parts`."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if any(part in name for part in parts)]:
            del tensors[name]

    return change


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (lambda folder: weights(folder, without(LAYER)), LAYER),
        (
            lambda folder: weights(folder, without("query.weight")),
            r"bert\.encoder\.layer\.0\..*query\.weight",
        ),
        (lambda folder: weights(folder, without("word_embeddings")), r"bert\.embeddings\.word_embeddings"),
        (lambda folder: weights(folder, without("bert.")), r"bert\."),
        (lambda folder: config(folder, intermediate_size=48), LAYER + "intermediate"),
        (lambda folder: config(folder, num_hidden_layers=3), r"bert\.encoder\.layer\.2"),
        (lambda folder: config(folder, max_position_embeddings=90), r"bert\.embeddings\.position_embeddings"),
    ],
)
def test_weights_that_do_not_match_config_are_rejected(
    model_dir: Path, change: Callable[[Path], None], lost: str
) -> None:
    change(model_dir)
    with pytest.raises(UsageError, match=rf"model .*model_dir: weight {lost}"):
        load(model_dir)


def test_missing_electra_projection_is_rejected(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    model_dir = Path(shutil.copytree(tiny_checkpoint("electra", density=1.0), tmp_path / "model_dir"))
    weights(model_dir, without("embeddings_project.weight"))
    with pytest.raises(UsageError, match=r"weight electra.embeddings_project.weight is missing"):
        load(model_dir)


def test_missing_head_and_pooler_are_reinitialized(model_dir: Path) -> None:
    assert load(model_dir, "mnli").classifier.weight.shape == (3, 32)
    weights(model_dir, without("classifier", "pooler"))
    before = load_file(model_dir / "model.safetensors")
    after = load(model_dir).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert after["classifier.weight"].shape == (2, 32)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_inf_are_rejected_by_name(model_dir: Path, value: float) -> None:
    name = LAYER + "output.dense.weight"
    weights(model_dir, lambda tensors: tensors[name][1, 2].fill_(value))
    with pytest.raises(UsageError, match=rf"model .*model_dir: {name} contains NaN or Inf"):
        load(model_dir)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:-8]
        ),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: config(folder, hidden_size="abc"),
        lambda folder: config(folder, hidden_act="nope"),
        lambda folder: config(folder, num_attention_heads=0),
        lambda folder: config(folder, model_type="nope"),
        lambda folder: (folder / "config.json").write_text("["),
        lambda folder: (folder / "tokenizer.json").write_text("["),
    ],
)
def test_damaged_model_is_one_error(model_dir: Path, damage: Callable[[Path], object]) -> None:
    damage(model_dir)
    with pytest.raises(
        UsageError, match=r"cannot load model .*model_dir \(.+\); check that its files are complete"
    ):
        load(model_dir)


def pickled(folder: Path, parts: int = 1, **save: Any) -> dict[str, torch.Tensor]:
    """Move the weights of a folder to pytorch_model.bin, or to several shards and their index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if parts == 1:
        torch.save(tensors, folder / "pytorch_model.bin", **save)
        return tensors
    table = {}
    for part in range(parts):
        name = f"pytorch_model-{part}.bin"
        chosen = {key: tensors[key] for key in sorted(tensors)[part::parts]}
        torch.save(chosen, folder / name, **save)
        table |= dict.fromkeys(chosen, name)
    index = {"metadata": {}, "weight_map": table}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return tensors


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights_are_loaded(model_dir: Path, parts: int, zipped: bool) -> None:
    before = pickled(model_dir, parts, _use_new_zipfile_serialization=zipped)
    after = load(model_dir).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


class Evil:
    """Calls `function` when it is unpickled."""

    def __init__(self, function: Any, marker: Path) -> None:
        self.call = function, (str(marker),)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda marker: {"x": Evil(os.mkdir, marker)},
            r"cannot be read as tensors alone \(Trying to load unsupported GLOBAL \w+.mkdir .*\); save the model",
        ),
        (
            lambda marker: {"x": Evil(shutil.copy, marker)},
            r"cannot be read as tensors alone \(Unsupported global: GLOBAL shutil.copy .*default\); save the model",
        ),
        (lambda _: {"model": {"x": torch.zeros(2)}, "epoch": 3}, r"is not a table of tensors by name; save"),
        (lambda _: [torch.zeros(2)], r"is not a table of tensors by name"),
    ],
)
@pytest.mark.parametrize("load", [load, hf_load.load_model])
def test_pickle_with_other_objects_is_rejected_by_name(
    model_dir: Path, tmp_path: Path, content: Any, message: str, load: Callable[[Path], Any]
) -> None:
    (model_dir / "model.safetensors").unlink()
    torch.save(content(tmp_path / "ran"), model_dir / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=rf"^\S*model_dir/pytorch_model.bin {message}") as caught:
        load(model_dir)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "pytorch_model-1.bin").unlink(), r"pytorch_model-1.bin is missing"),
        (
            lambda folder: (folder / "pytorch_model-1.bin").write_bytes(b"PK"),
            r"pytorch_model-1.bin cannot be",
        ),
        (
            lambda folder: (folder / "pytorch_model.bin.index.json").write_text("{}"),
            r"index.json is not an index of weights \(KeyError",
        ),
        (
            lambda folder: (folder / "pytorch_model.bin.index.json").write_text(
                '{"weight_map": {"x": "../pytorch_model-1.bin"}}'
            ),
            r"index.json is not an index of weights \(ValueError: weight_map must name files of the same folder",
        ),
    ],
)
def test_damaged_shard_of_pickled_weights_is_named(
    model_dir: Path, damage: Callable[[Path], object], message: str
) -> None:
    pickled(model_dir, 2)
    damage(model_dir)
    with pytest.raises(CheckpointError, match=message):
        load(model_dir)


def test_safetensors_are_preferred_to_pickle(model_dir: Path) -> None:
    (model_dir / "pytorch_model.bin").write_bytes(b"not read")
    load(model_dir)


@pytest.mark.parametrize("name", ["/no/such", "./such", "../such", "~/such"])
def test_missing_directory_is_not_looked_up_on_hub(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(
        transformers.AutoModelForSequenceClassification,
        "from_pretrained",
        lambda *_, **__: pytest.fail("asked"),
    )
    with pytest.raises(UsageError, match=rf"model {name}: no such directory"):
        load_model(name, TASKS.get("sst2"), ("0", "1"), 16, seed=0)


def test_unreachable_hub_is_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("huggingface_hub.utils._http")

    def fail(*_: object, **__: object) -> None:
        assert not logger.isEnabledFor(logging.WARNING)
        raise OSError("We couldn't connect\nTry again")

    monkeypatch.setattr(transformers.AutoModelForSequenceClassification, "from_pretrained", fail)
    before = logger.getEffectiveLevel()
    with pytest.raises(UsageError, match=r"cannot load model no/such \(We couldn't connect\)"):
        load(Path("no/such"))
    assert logger.getEffectiveLevel() == before


def test_missing_tokenizer_is_rejected(model_dir: Path) -> None:
    for file in model_dir.glob("*token*"):
        file.unlink()
    with pytest.raises(UsageError, match=r"model .*model_dir: no tokenizer there"):
        load(model_dir)


def test_code_of_a_model_is_never_run(model_dir: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (model_dir / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config(model_dir, model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(UsageError, match=r"cannot load model .*model_dir"):
        load(model_dir)
    assert not marker.exists()


@pytest.mark.parametrize(("family", "longest"), [("bert", 64), ("roberta", 59)])
def test_max_length_is_limited_by_model_and_tokenizer(
    tiny_checkpoint: Callable[..., Path], family: str, longest: int
) -> None:
    # Both have 60 or more positions and a tokenizer limit of 64. RoBERTa skips the positions up to its padding id.
    model_dir = tiny_checkpoint(family, density=1.0, max_position_embeddings=80 if family == "bert" else 60)
    load(model_dir, max_length=longest)
    with pytest.raises(UsageError, match=rf"max_length {longest + 1}: .* accepts at most {longest} tokens"):
        load(model_dir, max_length=longest + 1)


def test_model_max_length_that_is_not_a_number_is_rejected(model_dir: Path) -> None:
    file = model_dir / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": "512"}))
    with pytest.raises(
        UsageError,
        match=r"model .*model_dir: model_max_length in tokenizer_config.json is '512'; give a number",
    ):
        load(model_dir)


def test_full_disk_while_saving_tokenizer_is_one_error(model_dir: Path, tmp_path: Path) -> None:
    class Full:
        def save_pretrained(self, _: Path) -> None:
            raise Exception("No space left on device (os error 28)")

    model = load(model_dir)
    with pytest.raises(OutputError, match=r"^cannot write the tokenizer to \S+ \(No space left on device"):
        save_model(model, Full(), tmp_path / "out")


def test_tokenizer_without_padding_token_is_rejected(model_dir: Path) -> None:
    file = model_dir / "tokenizer_config.json"
    document = json.loads(file.read_text())
    del document["pad_token"]
    file.write_text(json.dumps(document))
    with pytest.raises(
        UsageError, match=r"model .*model_dir: its tokenizer has no padding token; set pad_token"
    ):
        load(model_dir)
