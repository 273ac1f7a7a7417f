"""What a task is: labelled texts in splits, how a model sees them, and what its outputs are worth.

A task answers four questions, and neither training nor export knows more about it:

* `Task.load`: where its rows come from;
* `Task.head`, `Task.head_config`: which head of transformers its models have;
* `Task.encode`: how rows become the numbers that a model takes;
* `Task.predict`, `Task.measure`: what a model's outputs say, and how good that is.
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
        head: what follows ``AutoModelFor`` in the name of the class that transformers has for its models.
        outputs: names of the model's outputs that decide.
        per_token: whether these have an entry for each token, not only for each row.
        options: frozen dataclass of what a user may set; its defaults here.
    """

    head: str
    outputs: tuple[str, ...] = ("logits",)
    per_token = False
    options: Any = NoOptions()

    def configured(self, given: Mapping[str, Any], name: str) -> Task:
        """The same task with other options.

        Args:
            given: values by option name.
            name: of the task, for messages.

        Raises:
            UsageError: no such option, or a value that it cannot have.
        """
        options = read_options(type(self.options), given, f"task {name}", "--task-option")
        made = copy.copy(self)
        # Tasks that are frozen dataclasses refuse an assignment.
        object.__setattr__(made, "options", options)
        return made

    @abstractmethod
    def load(self, data: Path | None) -> TaskData:
        """Read or make the data.

        Raises:
            DataError: it cannot be read as this task; the message names file and line.
            UsageError: the task takes no such `data`.
        """

    def head_config(self, labels: tuple[str, ...] | None) -> dict[str, Any]:
        """Fields of a model's configuration that decide its head, for the class names of `TaskData`."""
        if labels is None:
            raise NotImplementedError(f"{type(self).__name__} has no classes and says nothing of its head")
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }

    def classes(self, labels: tuple[str, ...] | None) -> int | None:
        """Length of the outputs' last axis, for the class names of `TaskData`; None where they have no such axis."""
        return len(labels) if labels is not None else None

    @abstractmethod
    def encode(self, split: Split, tokenizer: Any, max_length: int) -> Features:
        """Tokenise a split: one feature or more for each row.

        Args:
            split: of this task.
            tokenizer: of the model.
            max_length: tokens of the longest feature.

        Raises:
            UsageError: `max_length` leaves no room for a text, or the tokenizer cannot do what the task needs.
        """

    @abstractmethod
    def predict(self, outputs: Outputs, features: Features) -> list[Any]:
        """What a model says: one prediction for each row of the split that `features` were made of.

        Args:
            outputs: by name, one float32 array for each feature: ``[classes]``, or, per token, ``[tokens]`` or
                ``[tokens, classes]`` without padding.
            features: what the model was given.
        """

    @abstractmethod
    def measure(self, predictions: list[Any], split: Split) -> dict[str, float]:
        """The metrics of predictions by name, each at best 1."""

    def score(self, outputs: Mapping[str, Outputs], features: Mapping[str, Features]) -> dict[str, float]:
        """The metrics, named "metric" or, where the task has several evaluation splits, "metric_split".

        Args:
            outputs: see `predict`, by name of the split.
            features: what the model was given, by name of the split.
        """
        found = {}
        for name, given in features.items():
            predictions = self.predict(outputs[name], given)
            for metric, value in self.measure(predictions, given.split).items():
                found[f"{metric}_{name}" if name else metric] = value
        return found

    def fresh_model(self, seed: int) -> tuple[Any, Any]:
        """A randomly initialised model and its tokenizer, used when no --model is given."""
        del seed
        raise UsageError("--model is missing; give a directory or a hub id")
