"""What a task is: labelled sentences in splits, and the metrics that judge predictions on them.

Most tasks are a `TableTask`: a declaration of files, columns and labels. A task that makes its own data, tokenizer or
model overrides the methods of `Task`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.errors import UsageError

__all__ = ["Metrics", "Split", "Task", "TaskData"]

Metrics = Callable[[np.ndarray, np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Split:
    """One split of a task.

    Attributes:
        texts: per row, one sentence or a pair.
        labels: per row, the index of its class, or its value in a regression.
        sha256: identity of the data: of the unpacked file, or of the rows where there is no file.
    """

    texts: list[tuple[str, ...]]
    labels: list[int] | list[float]
    sha256: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TaskData:
    """The training split and the evaluation splits by name ("" where there is only one)."""

    train: Split
    evaluation: Mapping[str, Split]


class Task(ABC):
    """One task: single- or pair-sentence classification, or regression.

    Attributes:
        labels: class names in the order of their indices; None for a regression.
        metrics: ``(predictions, labels) -> {name: value}``; predictions are class indices int64 ``[rows]``, or
            float32 ``[rows]`` for a regression.
    """

    labels: tuple[str, ...] | None
    metrics: Metrics

    @abstractmethod
    def load(self, data: Path | None) -> TaskData:
        """Read or make the data.

        Raises:
            DataError: it cannot be read as this task; the message names file and line.
            UsageError: the task takes no such `data`.
        """

    def score(self, logits: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The metrics, named "metric" or, where the task has several evaluation splits, "metric_split".

        Args:
            logits: float32 ``[rows, classes]``, or ``[rows, 1]`` for a regression, by name of the split.
            labels: ``[rows]`` by name of the split.
        """
        found = {}
        for name, rows in logits.items():
            predictions = rows[:, 0] if self.labels is None else rows.argmax(1)
            for metric, value in self.metrics(predictions, labels[name]).items():
                found[f"{metric}_{name}" if name else metric] = value
        return found

    def fresh_model(self, seed: int) -> tuple[Any, Any]:
        """A randomly initialised model and its tokenizer, used when no --model is given."""
        del seed
        raise UsageError("--model is missing; give a directory or a hub id")
