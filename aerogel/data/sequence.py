"""Tasks of one decision for each row: a class or a value for one sentence or a pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aerogel.data.features import Features, Outputs, padding
from aerogel.data.split import Split
from aerogel.data.task import Task
from aerogel.errors import UsageError

__all__ = ["Metrics", "SequenceTask"]

# What a tokenizer returns takes several times the memory of the integers that are kept of it.
_AT_ONCE = 4096

Metrics = Callable[[np.ndarray, np.ndarray], dict[str, float]]


class SequenceTask(Task):
    """Single- or pair-sentence classification, or regression.

    Attributes:
        labels: class names in the order of their indices; None for a regression.
        metrics: ``(predictions, labels) -> {name: value}``; predictions are class indices int64 ``[rows]``, or
            float32 ``[rows]`` for a regression.
    """

    head = "SequenceClassification"
    labels: tuple[str, ...] | None
    metrics: Metrics

    def head_config(self, labels: tuple[str, ...] | None) -> dict[str, Any]:
        """One class each, or one value."""
        if labels is None:
            return {"num_labels": 1, "problem_type": "regression"}
        return {"problem_type": "single_label_classification", **super().head_config(labels)}

    def classes(self, labels: tuple[str, ...] | None) -> int:
        """A regression has one output."""
        return 1 if labels is None else len(labels)

    def encode(self, split: Split, tokenizer: Any, max_length: int) -> Features:
        """One feature for each row; longer ones are cut, of a pair the longer sentence first."""
        columns = [list(column) for column in zip(*split.texts, strict=True)]
        least = tokenizer.num_special_tokens_to_add(pair=len(columns) > 1) + len(columns)
        # Tokenizers then cut nothing.
        if max_length < least:
            raise UsageError(
                f"--max-length {max_length}: with the special tokens of this model and task a row has at least {least}"
            )
        inputs: dict[str, list[list[int]]] = {}
        for start in range(0, len(split), _AT_ONCE):
            part = (column[start : start + _AT_ONCE] for column in columns)
            encoded = tokenizer(*part, truncation=True, max_length=max_length)
            for name in tokenizer.model_input_names:
                if name in encoded:
                    inputs.setdefault(name, []).extend(encoded[name])
        return Features(split, inputs, {"labels": split.labels}, padding(tokenizer))

    def predict(self, outputs: Outputs, features: Features) -> list[Any]:
        """Class indices, or values."""
        del features
        logits = np.stack(outputs["logits"])
        return list((logits[:, 0] if logits.shape[1] == 1 else logits.argmax(1)).tolist())

    def measure(self, predictions: list[Any], split: Split) -> dict[str, float]:
        """The task's metrics."""
        dtype = np.float32 if isinstance(predictions[0], float) else np.int64
        return self.metrics(np.array(predictions, dtype), np.array(split.labels))
