"""The rows of a task, in splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Split", "TaskData"]


@dataclass(frozen=True)
class Split:
    """One split of a task.

    Attributes:
        texts: per row, what the model is given: one sentence or a pair, a question and its context, or the words of
            a sentence.
        labels: per row, what is right: the index of its class, its value in a regression, or what the task says.
        sha256: identity of the data: of the unpacked file, or of the rows where there is no file.
        classes: class names in the order of their indices; None where there are no classes.
        left_out: rows of the file that are not among these because the data is broken there.
    """

    texts: list[Any]
    labels: list[Any]
    sha256: str
    classes: tuple[str, ...] | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TaskData:
    """What was loaded.

    Attributes:
        train: the training split.
        evaluation: the evaluation splits by name, "" where there is only one.
    """

    train: Split
    evaluation: Mapping[str, Split]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names, for all splits the same."""
        return self.train.classes
