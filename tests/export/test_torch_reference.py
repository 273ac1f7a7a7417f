from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tiny_models import save_model

from aerogel.errors import CheckpointError, ExportError
from aerogel.export.torch_reference import load_reference
from aerogel.hf.limits import longest_sequence
from aerogel.hf.load import model_class


def with_changes(source: Any, **changes: Any) -> Any:
    """A copy of a reference with other attributes."""
    made = copy.copy(source)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_longest_sequence_is_that_of_the_model_or_of_the_tokenizer(captured: Callable[..., Any]) -> None:
    assert captured("bert")[1].max_length == 64


def altered(path: Path, to: Path, file: str, change: Callable[[dict[str, Any]], object]) -> Path:
    shutil.copytree(path, to)
    document = json.loads((to / file).read_text())
    change(document)
    (to / file).write_text(json.dumps(document))
    return to


def test_model_bounds_the_length_where_the_tokenizer_does_not(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    for family, length in (
        ("bert", 80),
        ("roberta", 79),
    ):  # RoBERTa begins behind the padding token's number, 0
        path = altered(
            tiny_checkpoint(family),
            tmp_path / family,
            "tokenizer_config.json",
            lambda d: d.pop("model_max_length"),
        )
        assert load_reference(path).max_length == length


def test_a_parameter_that_is_no_number_is_named(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "ckpt"
    shutil.copytree(tiny_checkpoint(), path)
    name = "bert.embeddings.LayerNorm.weight"
    tensors = safetensors.numpy.load_file(path / "model.safetensors")
    tensors[name][3] = np.inf
    safetensors.numpy.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: {name} has values that are not finite"):
        load_reference(path)


def test_code_of_a_checkpoint_is_never_run(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(
        tiny_checkpoint(), tmp_path / "ckpt", "config.json",
        lambda d: d.update(model_type="mine", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}),
    )  # fmt: skip
    (path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_reference(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["NoSuchModel", "pipeline", "BertTokenizer"])
def test_architecture_that_is_no_model_is_refused(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    path = altered(
        tiny_checkpoint(), tmp_path / "ckpt", "config.json", lambda d: d.update(architectures=[name])
    )
    with pytest.raises(ExportError, match=name):
        load_reference(path)


def test_weights_that_are_missing_are_refused(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(
        tiny_checkpoint("bert", ""), tmp_path / "ckpt", "config.json",
        lambda d: d.update(architectures=["BertForSequenceClassification"]),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"classifier\.bias"):
        load_reference(path)


def test_missing_tokenizer_is_refused(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "ckpt"
    shutil.copytree(tiny_checkpoint(), path, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        load_reference(path)


def test_damaged_tokenizer_is_refused(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(tiny_checkpoint(), tmp_path / "ckpt", "tokenizer.json", lambda d: d.pop("model"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be loaded"):
        load_reference(path)


@pytest.mark.parametrize("limit", [2, 0, -5, 2.5, True, "x", [1], float("nan")])
def test_a_limit_that_is_none_is_refused_by_name(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, limit: Any
) -> None:
    path = altered(
        tiny_checkpoint(), tmp_path / "ckpt", "tokenizer_config.json",
        lambda d: d.update(model_max_length=limit),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: model_max_length .* at least 3"):
        load_reference(path)


def test_the_least_limit_is_taken(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(
        tiny_checkpoint(), tmp_path / "ckpt", "tokenizer_config.json", lambda d: d.update(model_max_length=3)
    )
    assert load_reference(path).max_length == 3


def test_tokenizer_of_another_model_is_refused(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "ckpt"
    shutil.copytree(tiny_checkpoint("bert", vocab_size=20), path)
    with pytest.raises(CheckpointError, match="embeds 20"):
        load_reference(path)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"hidden_size": "abc"}, "hidden_size"),
        ({"hidden_act": "nope"}, "KeyError: 'nope'"),
        ({"hidden_size": 33}, "multiple of"),
    ],
)
def test_a_damaged_configuration_is_refused_by_name(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    path = altered(tiny_checkpoint(), tmp_path / "ckpt", "config.json", lambda d: d.update(fields))
    with pytest.raises(CheckpointError, match=rf"transformers.*ckpt.*{reason}|ckpt.*transformers.*{reason}"):
        load_reference(path)


def test_truncated_weights_are_refused_by_name(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(tiny_checkpoint(), tmp_path / "ckpt", "config.json", dict.copy)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"ckpt: transformers cannot load Bert.*SafetensorError"):
        load_reference(path)


def test_a_model_that_takes_some_lengths_only_is_refused_by_name(tmp_path: Path) -> None:
    save_model(tmp_path / "made", "nystromformer", "sequence")
    path = altered(tmp_path / "made", tmp_path / "ckpt", "config.json", lambda d: d.update(num_landmarks=8))
    said = r"^NystromformerForSequenceClassification cannot run on input_ids, .*\[1, 1\] \(RuntimeError: .*reshape"
    with pytest.raises(ExportError, match=said) as caught:
        load_reference(path)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_table_of_tokens_is_refused_by_name(tmp_path: Path) -> None:
    save_model(tmp_path / "ckpt", "canine", "sequence")
    with pytest.raises(
        ExportError, match=r"^CanineForSequenceClassification has no table of token embeddings"
    ):
        load_reference(tmp_path / "ckpt")


def test_a_failure_of_the_model_is_one_line_that_names_it(captured: Callable[..., Any]) -> None:
    source = captured("bert")[1]

    def fail(**_: Any) -> None:
        raise AssertionError

    broken = with_changes(source, model=fail)
    with pytest.raises(ExportError, match=r"input_ids, attention_mask of shape \[2, 3\] \(AssertionError"):
        broken.run(dict.fromkeys(("input_ids", "attention_mask"), np.ones((2, 3), np.int64)))


def test_a_model_that_says_minus_one_has_no_limit_of_its_own() -> None:
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=-1), named_modules=lambda: [])
    assert longest_sequence(model, SimpleNamespace(model_max_length=10**30)) == 512
    assert longest_sequence(model, SimpleNamespace(model_max_length=64)) == 64


def test_a_class_whose_packages_are_missing_names_them(
    tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    dummy = type("BertForSequenceClassification", (), {"_backends": ["torchaudio"]})
    monkeypatch.setattr(transformers, "BertForSequenceClassification", dummy, raising=False)
    with pytest.raises(ExportError, match="BertForSequenceClassification needs torchaudio"):
        model_class(tiny_checkpoint())
