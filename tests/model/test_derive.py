from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aerogel.errors import ArtifactError
from aerogel.model.artifact import Artifact
from aerogel.model.derive import Port, derive_head
from aerogel.model.document import Document
from aerogel.model.sentence import Sentence


def _artifact(config: dict[str, Any], sentence: Sentence | None = None) -> Artifact:
    empty = Document(Path("empty.json"), {})
    return Artifact(
        Path("m.onnx"), Path(), Document(Path("config.json"), json.loads(json.dumps(config))), empty, empty, sentence,
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
        # The shape decides where the class contradicts it.
        ({"architectures": ["BertForMaskedLM"]}, {"logits": TEXT}, "classify", "logits"),
        ({"architectures": ["BertForTokenClassification"]}, {"logits": None}, "tag", "logits"),
    ],
)
def test_derive_kind_and_output(
    config: dict[str, Any], outputs: dict[str, Any], kind: str, output: str
) -> None:
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
def test_derive_activation(config: dict[str, Any], width: int, activation: str) -> None:
    assert derive_head(_artifact(config), _ports(logits=(None, width))).activation == activation


def test_labels_follow_the_order_of_the_logits() -> None:
    def labels(config: dict[str, Any], width: int | None = 3) -> Any:
        return derive_head(_artifact(config), _ports(logits=(None, width))).labels

    assert labels({"id2label": {"2": "c", "0": "a", "1": "b"}}) == ("a", "b", "c")
    assert labels({}) == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert labels({}, None) is None
    for wrong in ({"0": "a", "2": "b"}, {"x": "a"}, {"0": "a", "00": "b"}, {"-1": "a"}):
        with pytest.raises(
            ArtifactError,
            match=r"config\.json: id2label is an object of . fields, not an object with the keys",
        ):
            labels({"id2label": wrong}, None)
    with pytest.raises(ArtifactError, match=r"config\.json: id2label has 3 labels, but the model 2"):
        labels(CLASSES, 2)


def test_derive_sparse_embed_from_a_splade_folder() -> None:
    head = derive_head(_artifact({}, Sentence(sparse=True)), _ports(logits=(None, None, 9)))
    assert (head.kind, head.dimensions) == ("sparse_embed", 9)


def test_the_error_lists_unknown_outputs() -> None:
    with pytest.raises(ArtifactError, match=r"m\.onnx: no head fits the outputs x, y; known are"):
        derive_head(_artifact({}), _ports(x=TEXT, y=TEXT))
