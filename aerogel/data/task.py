"""The interface of a task. Training and export use a task through it only.

* `Task.load` reads the rows.
* `Task.head` and `Task.head_config` choose the model's head in transformers.
* `Task.encode` turns rows into model inputs.
* `Task.predict` turns model outputs into predictions, and `Task.measure` computes their metrics.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerogel.data.features import Features, Outputs
from aerogel.data.split import Split, TaskData
from aerogel.errors import UsageError
from aerogel.system.options import NoOptions, read_options

__all__ = ["Task"]


class Task(ABC):
    """One task.

    Attributes:
        head: suffix of the transformers class, as in ``AutoModelFor<head>``.
        outputs: names of the model outputs that predictions need.
        per_token: whether these outputs have an entry per token, not only per row.
        options: frozen dataclass of the task's options.
    """

    head: str
    outputs: tuple[str, ...] = ("logits",)
    per_token = False
    options: Any = NoOptions()

    def configured(self, given: Mapping[str, Any], name: str) -> Task:
        """Return a copy of the task with other options.

        Args:
            given: values by option name.
            name: name of the task, for messages.

        Raises:
            UsageError: an unknown option or an invalid value.
        """
        options = read_options(type(self.options), given, f"task {name}", "--task-option")
        made = copy.copy(self)
        # A plain assignment fails for tasks that are frozen dataclasses.
        object.__setattr__(made, "options", options)
        return made

    @abstractmethod
    def load(self, data: Path | None) -> TaskData:
        """Read or generate the data.

        Raises:
            DataError: the data is not valid for this task; the message names file and line.
            UsageError: `data` is missing, or the task takes none.
        """

    def head_config(self, labels: tuple[str, ...] | None) -> dict[str, Any]:
        """Return the fields of the model configuration that define its head.

        Args:
            labels: class names, see `TaskData.labels`.
        """
        if labels is None:
            raise NotImplementedError(f"{type(self).__name__} has no classes and does not define head_config")
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }

    def classes(self, labels: tuple[str, ...] | None) -> int | None:
        """Length of the last output axis for these class names; None if the outputs have no class axis."""
        return len(labels) if labels is not None else None

    @abstractmethod
    def encode(self, split: Split, tokenizer: Any, max_length: int) -> Features:
        """Tokenise a split into one or more features per row.

        Args:
            split: split of this task.
            tokenizer: tokenizer of the model.
            max_length: maximum tokens of a feature.

        Raises:
            UsageError: `max_length` leaves no room for text, or the task does not support the tokenizer.
        """

    @abstractmethod
    def predict(self, outputs: Outputs, features: Features) -> list[Any]:
        """Turn model outputs into one prediction per row of ``features.split``.

        Args:
            outputs: by name, one float32 array per feature: ``[classes]``, or, with `per_token`, ``[tokens]`` or
                ``[tokens, classes]`` without padding.
            features: inputs that the outputs were computed from.
        """

    @abstractmethod
    def measure(self, predictions: list[Any], split: Split) -> dict[str, float]:
        """Compute the metrics of the predictions by name; the best value of each is 1."""

    def score(self, outputs: Mapping[str, Outputs], features: Mapping[str, Features]) -> dict[str, float]:
        """Compute all metrics, named "metric", or "metric_split" if the task has several evaluation splits.

        Args:
            outputs: outputs by name of the split, see `predict`.
            features: features by name of the split.
        """
        found = {}
        for name, given in features.items():
            predictions = self.predict(outputs[name], given)
            for metric, value in self.measure(predictions, given.split).items():
                found[f"{metric}_{name}" if name else metric] = value
        return found

    def fresh_model(self, seed: int) -> tuple[Any, Any]:
        """Create a randomly initialised model and its tokenizer, for runs without --model.

        Raises:
            UsageError: the task has no model of its own.
        """
        del seed
        raise UsageError("--model is missing; give a directory or a hub id")
