"""Splits of a task's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Split", "TaskData"]


@dataclass(frozen=True)
class Split:
    """One split of a task.

    Attributes:
        texts: input of each row: a sentence or a pair, a question and its context, or the words of a sentence.
        labels: truth of each row: a class index, a value in a regression, or an object that the task defines.
        sha256: hash of the unpacked file; of the rows if the data does not come from a file.
        classes: class names by index; None if there are no classes.
        skipped: number of rows of the file that were skipped because they are malformed.
    """

    texts: list[Any]
    labels: list[Any]
    sha256: str
    classes: tuple[str, ...] | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TaskData:
    """All splits of a task.

    Attributes:
        train: training split.
        evaluation: evaluation splits by name; the name is "" if there is only one.
    """

    train: Split
    evaluation: Mapping[str, Split]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names, the same for all splits."""
        return self.train.classes
