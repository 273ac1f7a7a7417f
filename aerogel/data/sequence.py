"""Tasks with one prediction per row: a class or a value for a sentence or a pair of sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aerogel.data.features import Features, Outputs, padding
from aerogel.data.split import Split
from aerogel.data.task import Task
from aerogel.errors import UsageError

__all__ = ["Metrics", "SequenceTask"]

# Rows per call of the tokenizer, whose result takes several times the memory of the integers that are kept.
_CHUNK = 4096

Metrics = Callable[[np.ndarray, np.ndarray], dict[str, float]]


class SequenceTask(Task):
    """Classification or regression of a sentence or a pair of sentences.

    Attributes:
        labels: class names by index; None for a regression.
        metrics: ``(predictions, labels) -> {name: value}``; predictions are class indices int64 ``[rows]``, or
            float32 ``[rows]`` for a regression.
    """

    head = "SequenceClassification"
    labels: tuple[str, ...] | None
    metrics: Metrics

    def head_config(self, labels: tuple[str, ...] | None) -> dict[str, Any]:
        """Configure one output per class, or one output for a regression."""
        if labels is None:
            return {"num_labels": 1, "problem_type": "regression"}
        return {"problem_type": "single_label_classification", **super().head_config(labels)}

    def classes(self, labels: tuple[str, ...] | None) -> int:
        """Number of classes; 1 for a regression."""
        return 1 if labels is None else len(labels)

    def encode(self, split: Split, tokenizer: Any, max_length: int) -> Features:
        """Make one feature per row. Long rows are truncated; in a pair, the longer sentence first."""
        columns = [list(column) for column in zip(*split.texts, strict=True)]
        least = tokenizer.num_special_tokens_to_add(pair=len(columns) > 1) + len(columns)
        # Tokenizers do not truncate at all if no room is left for text.
        if max_length < least:
            raise UsageError(
                f"--max-length {max_length}: must be at least {least}, to fit the special tokens and one token per text"
            )
        inputs: dict[str, list[list[int]]] = {}
        for start in range(0, len(split), _CHUNK):
            part = (column[start : start + _CHUNK] for column in columns)
            encoded = tokenizer(*part, truncation=True, max_length=max_length)
            for name in tokenizer.model_input_names:
                if name in encoded:
                    inputs.setdefault(name, []).extend(encoded[name])
        return Features(split, inputs, {"labels": split.labels}, padding(tokenizer))

    def predict(self, outputs: Outputs, features: Features) -> list[Any]:
        """Return class indices, or the values of a regression."""
        del features
        logits = np.stack(outputs["logits"])
        return list((logits[:, 0] if logits.shape[1] == 1 else logits.argmax(1)).tolist())

    def measure(self, predictions: list[Any], split: Split) -> dict[str, float]:
        """Compute the task's metrics."""
        dtype = np.float32 if isinstance(predictions[0], float) else np.int64
        return self.metrics(np.array(predictions, dtype), np.array(split.labels))
