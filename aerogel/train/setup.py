"""Interface between a run and a type of training: fine-tuning on a task or pre-training on text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from aerogel.train.batches import Rows
from aerogel.train.gradients import Objective
from aerogel.train.loss import TaskLoss
from aerogel.train.pretraining.rows import TextRows

__all__ = ["TrainingJob", "TrainingSetup"]


@dataclass(frozen=True)
class TrainingJob:
    """Model, data and loss of a run.

    Attributes:
        model: model in float32, with its training head.
        tokenizer: tokenizer as loaded. It must not be called, because calls change the files that it saves.
        rows: training rows.
        total: number of optimizer steps.
        evaluate: computes the metrics of the current model.
        rehearse: runs a small part of `evaluate`, on the rows that need the most memory.
        objective: the loss.
        final: number of steps after these that train the remaining weights with a fixed mask.
        notes: entries added to the settings in the record.
    """

    model: Any
    tokenizer: Any
    rows: Rows | TextRows
    total: int
    evaluate: Callable[[], dict[str, float]]
    rehearse: Callable[[], object]
    objective: Objective = field(default_factory=TaskLoss)
    final: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


class TrainingSetup(Protocol):
    """A type of training: `FineTuning` on a task, or `Pretraining` on text."""

    @property
    def task(self) -> str | None:
        """Name of the task; None for pre-training."""

    def load_data(self) -> dict[str, Any]:
        """Read or check the data; returns its fingerprint, as JSON values.

        Raises:
            DataError: the data cannot be read.
        """

    def job(self, device: torch.device) -> TrainingJob:
        """Load the model and prepare the rows. Called once, after `load_data`.

        Args:
            device: device of the run.

        Raises:
            UsageError: the model cannot be loaded, or does not fit the data.
        """
