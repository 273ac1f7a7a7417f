"""Derive the head of a model without one in its manifest, from config.json and the session's outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from aerogel.errors import ArtifactError
from aerogel.model.artifact import Artifact
from aerogel.model.document import Document
from aerogel.model.head import Head
from aerogel.system.json_fields import Each, Either, Number, OneOf

__all__ = ["Port", "derive_head"]


@dataclass(frozen=True)
class Port:
    """An input or output of a session.

    Attributes:
        name: its name.
        type: ONNX Runtime's name of its type, e.g. ``"tensor(float)"``.
        shape: sizes, None for each dynamic one; None if the rank is unknown.
    """

    name: str
    type: str
    shape: tuple[int | None, ...] | None

    @property
    def rank(self) -> int | None:
        """Number of dimensions, or None if unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def width(self) -> int | None:
        """Size of the last dimension, or None if unknown."""
        return self.shape[-1] if self.shape else None


# Kind of head, by the suffix of the model's class name.
_ARCHITECTURES = {
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "tag",
    "ForQuestionAnswering": "answer",
    "ForMaskedLM": "fill_mask",
    "ForPreTraining": "fill_mask",
}
_TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")
_ACTIVATIONS = {
    "regression": "identity",
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
}

# By the PyTorch class in the configuration of a sentence-transformers cross-encoder.
_CROSS_ENCODER = {"Identity": "identity", "Sigmoid": "sigmoid"}


def derive_head(artifact: Artifact, outputs: Sequence[Port]) -> Head:
    """Derive the head of a model.

    Args:
        artifact: the model's files.
        outputs: outputs of its session.

    Raises:
        ArtifactError: no head fits the outputs.
    """
    by_name = {port.name: port for port in outputs}
    sentence = artifact.sentence
    if "sentence_embedding" in by_name:
        port = by_name["sentence_embedding"]
        return _vectors("embed", port, artifact)
    if sentence and sentence.sparse and "logits" in by_name:
        return _vectors("sparse_embed", by_name["logits"], artifact)
    if {"start_logits", "end_logits"} <= by_name.keys():
        return Head("answer", "start_logits")
    if (name := next((name for name in _TOKEN_VECTORS if name in by_name), None)) is not None:
        return _vectors("tokens", by_name[name], artifact)
    if "prediction_logits" in by_name:
        return Head("fill_mask", "prediction_logits")
    if "logits" in by_name:
        return _logits(artifact.config, by_name["logits"])
    if len(outputs) == 1 and outputs[0].rank in (2, 3):
        return _vectors("embed" if outputs[0].rank == 2 else "tokens", outputs[0], artifact)
    raise ArtifactError(
        f"{artifact.path}: no head fits the outputs {', '.join(by_name)}; known are sentence_embedding, "
        "last_hidden_state, logits, and start_logits with end_logits"
    )


def _vectors(kind: str, port: Port, artifact: Artifact) -> Head:
    """A head for embeddings."""
    sentence = artifact.sentence
    prompts: Mapping[str, str] = sentence.prompts if sentence else {}
    return Head(
        kind,
        port.name,
        dimensions=port.width,
        prompts=MappingProxyType(dict(prompts)),
        default_prompt=sentence.default_prompt if sentence else None,
    )


def _logits(config: Document, port: Port) -> Head:
    """A head for logits: two dimensions are one row per text, three one row per token."""
    names = config.get("architectures", [str]) or [""]
    kind = next((kind for end, kind in _ARCHITECTURES.items() if names[0].endswith(end)), None)
    per_text = port.rank == 2
    if kind is None or (port.rank is not None and per_text != (kind == "classify")):
        # The class is unknown or contradicts the shape of the output; the shape decides.
        vocabulary = config.get("vocab_size", Number(int, 1))
        kind = "classify" if per_text else "fill_mask" if port.width == vocabulary is not None else "tag"
    if kind not in ("classify", "tag"):
        return Head(kind, port.name)
    labels = read_labels(config, port.width)
    if kind == "tag":
        return Head(kind, port.name, labels=labels, activation="softmax")
    problem = config.get("problem_type", OneOf(*_ACTIVATIONS))
    single = port.width == 1 or (labels is not None and len(labels) == 1)
    activation = _ACTIVATIONS[problem] if problem else "sigmoid" if single else "softmax"
    if single and problem == "single_label_classification":
        activation = "sigmoid"
    cross_encoder = config.get("sentence_transformers", {"activation_fn?": Either(str, None)}) or {}
    function = cross_encoder.get("activation_fn") or ""
    activation = _CROSS_ENCODER.get(function.rpartition(".")[2], activation)
    return Head("rerank" if single else "classify", port.name, labels=labels, activation=activation)


def read_labels(config: Document, count: int | None) -> tuple[str, ...] | None:
    """Labels of config.json's id2label, in order.

    Args:
        config: contents of config.json.
        count: classes of the model, or None if the .onnx file does not say.

    Returns:
        The labels; ``LABEL_0``, ``LABEL_1``, ... without id2label; None if their number is unknown too.

    Raises:
        ArtifactError: id2label does not map 0, 1, ... to texts, or has another number of labels than `count`.
    """
    given = config.get("id2label", Each(str))
    if given is None:
        return None if count is None else tuple(f"LABEL_{number}" for number in range(count))
    if not all(re.fullmatch("[0-9]{1,9}", key) for key in given):
        raise config.error("id2label", "an object with the keys 0, 1, ...")
    numbered = {int(key): label for key, label in given.items()}
    if sorted(numbered) != list(range(len(numbered))) or len(numbered) != len(given):
        raise config.error("id2label", "an object with the keys 0, 1, ...")
    if count is not None and count != len(numbered):
        raise ArtifactError(
            f"{config.path}: id2label has {len(numbered)} labels, but the model {count}; correct the file"
        )
    return tuple(numbered[number] for number in range(len(numbered)))
