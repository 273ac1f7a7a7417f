from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from aerogel.errors import CheckpointError, ExportError
from aerogel.export.capture import load_source
from aerogel.export.function import IR_VERSION, OPSET
from aerogel.export.simplify import simplify

HEADS = {
    "SequenceClassification": ("logits",),
    "TokenClassification": ("logits",),
    "QuestionAnswering": ("start_logits", "end_logits"),
    "": ("last_hidden_state",),
}
# One layer captures fastest; two show that they share one mask.
MODELS = {
    "bert": ("bert", "SequenceClassification", {}),
    "bert tokens": ("bert", "TokenClassification", {"num_hidden_layers": 1}),
    "bert spans": ("bert", "QuestionAnswering", {"num_hidden_layers": 1}),
    "bert encoder": ("bert", "", {"num_hidden_layers": 1}),
    "distilbert": ("distilbert", "SequenceClassification", {"n_layers": 1}),
    "roberta": ("roberta", "SequenceClassification", {"num_hidden_layers": 1}),
    "electra": ("electra", "SequenceClassification", {"num_hidden_layers": 1}),
}


@pytest.mark.parametrize("which", MODELS)
def test_graph_gives_what_the_model_gives_at_every_shape(captured: Callable[..., Any], which: str) -> None:
    family, head, sizes = MODELS[which]
    _, source, model = captured(family, head, **sizes)
    simplify(model)
    assert (model.opset_imports, model.ir_version) == ({"": OPSET}, IR_VERSION)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    names = [value.name for value in session.get_inputs()]
    assert names == ["input_ids", "attention_mask"] + ["token_type_ids"] * (family in ("bert", "electra"))
    assert [value.shape for value in session.get_inputs()] == [["batch", "sequence"]] * len(names)
    assert tuple(value.name for value in session.get_outputs()) == source.outputs == HEADS[head]

    random = np.random.default_rng(0)
    for batch, length in [(1, 1), (1, 64), (3, 2), (2, 17), (8, 5)]:
        mask = np.ones((batch, length), np.int64)
        mask[-1, 1 + length // 2 :] = 0
        feed = {
            "input_ids": np.where(mask == 1, random.integers(5, 60, mask.shape), 0),
            "attention_mask": mask,
            "token_type_ids": random.integers(0, 2, mask.shape),
        }
        feed = {name: feed[name] for name in names}
        for name, got in zip(source.outputs, session.run(None, feed), strict=True):
            expected = source.run(feed)[name]
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_weights_have_the_names_of_the_checkpoint(captured: Callable[..., Any]) -> None:
    path, _, model = captured("bert")
    masks = json.loads((path / "aerogel.json").read_text())["matrices"]
    assert masks
    assert set(masks) <= set(model.graph.initializers)


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
        assert load_source(path).max_length == length


def test_code_of_a_checkpoint_is_never_run(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(
        tiny_checkpoint(), tmp_path / "ckpt", "config.json",
        lambda d: d.update(model_type="mine", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}),
    )  # fmt: skip
    (path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_source(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["NoSuchModel", "pipeline", "BertTokenizer"])
def test_architecture_that_is_no_model_is_refused(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    path = altered(
        tiny_checkpoint(), tmp_path / "ckpt", "config.json", lambda d: d.update(architectures=[name])
    )
    with pytest.raises(ExportError, match=name):
        load_source(path)


def test_weights_that_are_missing_are_refused(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(
        tiny_checkpoint("bert", ""), tmp_path / "ckpt", "config.json",
        lambda d: d.update(architectures=["BertForSequenceClassification"]),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"classifier\.bias"):
        load_source(path)


def test_missing_tokenizer_is_refused(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "ckpt"
    shutil.copytree(tiny_checkpoint(), path, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        load_source(path)


def test_damaged_tokenizer_is_refused(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = altered(tiny_checkpoint(), tmp_path / "ckpt", "tokenizer.json", lambda d: d.pop("model"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be loaded"):
        load_source(path)


def test_tokenizer_of_another_model_is_refused(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "ckpt"
    shutil.copytree(tiny_checkpoint("bert", vocab_size=20), path)
    with pytest.raises(CheckpointError, match="embeds 20"):
        load_source(path)
