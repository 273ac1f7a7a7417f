"""What sets one kind of training apart from another, and what it gives a run to work on."""

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
    """What a run works on.

    Attributes:
        model: in float32, with the head that it is trained with.
        tokenizer: of the model, as it was loaded: calls of a tokenizer change what it would save.
        rows: training rows.
        total: optimizer steps.
        measure: gives the metrics of the model as it is.
        rehearse: does a small part of what `measure` does, with the rows that need the most memory.
        objective: the loss.
        final: further steps, in which the surviving weights are fine-tuned.
        notes: entries of the record besides the configuration.
    """

    model: Any
    tokenizer: Any
    rows: Rows | TextRows
    total: int
    measure: Callable[[], dict[str, float]]
    rehearse: Callable[[], object]
    objective: Objective = field(default_factory=TaskLoss)
    final: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


class TrainingSetup(Protocol):
    """What sets one kind of training apart: `FineTuning` on a task, or pre-training on text."""

    @property
    def task(self) -> str | None:
        """Name of the task, None where there is none."""

    def load_data(self) -> dict[str, Any]:
        """Read the data, or see that it is there; returns what identifies it, as JSON values.

        Raises:
            DataError: it cannot be read.
        """

    def job(self, device: torch.device) -> TrainingJob:
        """Load the model and give the data its form. Called once, after `load_data`.

        Args:
            device: where the run computes.

        Raises:
            UsageError: there is no such model, or model and data do not fit.
        """
