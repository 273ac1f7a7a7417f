from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aerogel.errors import ArtifactError
from aerogel.model.artifact import Artifact
from aerogel.model.derive import Port, derive_head
from aerogel.model.fields import Fields
from aerogel.model.sentence import Sentence


def _artifact(config: dict[str, Any], sentence: Sentence | None = None) -> Artifact:
    none = Fields("none", {})
    return Artifact(
        Path("m.onnx"), Path(), Fields("config.json", json.loads(json.dumps(config))), none, none, sentence,
        None, 512, None, False,
    )  # fmt: skip


def _ports(**shapes: tuple[int | None, ...] | None) -> list[Port]:
    return [Port(name, "tensor(float)", shape) for name, shape in shapes.items()]


TEXT, TOKEN = (None, 3), (None, None, 3)
CLASSES = {"id2label": {"0": "a", "1": "b", "2": "c"}}


@pytest.mark.parametrize(
    ("config", "outputs", "kind", "output"),
    [
        ({}, {"last_hidden_state": TOKEN, "sentence_embedding": TEXT}, "embed", "sentence_embedding"),
        ({}, {"token_embeddings": TOKEN, "x": TEXT}, "tokens", "token_embeddings"),
        ({}, {"output_0": TOKEN}, "tokens", "output_0"),
        ({}, {"output_0": TEXT}, "embed", "output_0"),
        ({}, {"start_logits": (None, None), "end_logits": (None, None)}, "answer", "start_logits"),
        ({"architectures": ["BertForSequenceClassification"]}, {"logits": TEXT}, "classify", "logits"),
        ({"architectures": ["BertForSequenceClassification"]}, {"logits": (None, 1)}, "rerank", "logits"),
        ({"architectures": ["BertForTokenClassification"]}, {"logits": TOKEN}, "tag", "logits"),
        ({"architectures": ["BertForMaskedLM"]}, {"logits": TOKEN}, "fill_mask", "logits"),
        ({}, {"prediction_logits": TOKEN, "seq_relationship_logits": TEXT}, "fill_mask", "prediction_logits"),
        ({"vocab_size": 3}, {"logits": TOKEN}, "fill_mask", "logits"),
        ({}, {"logits": TOKEN}, "tag", "logits"),
        ({}, {"logits": TEXT}, "classify", "logits"),
        # The file decides where the class says another thing.
        ({"architectures": ["BertForMaskedLM"]}, {"logits": TEXT}, "classify", "logits"),
        ({"architectures": ["BertForTokenClassification"]}, {"logits": None}, "tag", "logits"),
    ],
)
def test_the_kind_is_derived(config: dict[str, Any], outputs: dict[str, Any], kind: str, output: str) -> None:
    head = derive_head(_artifact(config), _ports(**outputs))
    assert (head.kind, head.output) == (kind, output)


@pytest.mark.parametrize(
    ("config", "width", "activation"),
    [
        ({}, 3, "softmax"),
        ({}, 1, "sigmoid"),
        ({"problem_type": "regression"}, 1, "identity"),
        ({"problem_type": "multi_label_classification"}, 3, "sigmoid"),
        ({"problem_type": "single_label_classification"}, 1, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, 1, "identity"),
    ],
)
def test_the_activation_is_derived(config: dict[str, Any], width: int, activation: str) -> None:
    assert derive_head(_artifact(config), _ports(logits=(None, width))).activation == activation


def test_labels_are_in_the_order_of_the_logits() -> None:
    def labels(config: dict[str, Any], width: int | None = 3) -> Any:
        return derive_head(_artifact(config), _ports(logits=(None, width))).labels

    assert labels({"id2label": {"2": "c", "0": "a", "1": "b"}}) == ("a", "b", "c")
    assert labels({}) == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert labels({}, None) is None
    for wrong in ({"0": "a", "2": "b"}, {"x": "a"}, {"0": "a", "00": "b"}, {"-1": "a"}):
        with pytest.raises(ArtifactError, match=r"config\.json: id2label must be an object with the keys"):
            labels({"id2label": wrong}, None)
    with pytest.raises(ArtifactError, match=r"config\.json: id2label has 3 labels and the model 2"):
        labels(CLASSES, 2)


def test_splade_folders_give_sparse_vectors() -> None:
    head = derive_head(_artifact({}, Sentence(sparse=True)), _ports(logits=(None, None, 9)))
    assert (head.kind, head.dimensions) == ("sparse_embed", 9)


def test_unknown_outputs_are_listed() -> None:
    with pytest.raises(ArtifactError, match=r"m\.onnx gives x, y; known are"):
        derive_head(_artifact({}), _ports(x=TEXT, y=TEXT))
