"""Fine-tuning on a task: its rows, its metrics and an optional teacher."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from aerogel.data.split import Split, TaskData
from aerogel.data.task import Task
from aerogel.train.batches import Rows
from aerogel.train.config import TrainConfig
from aerogel.train.distill import Distillation, load_teacher, tokenizer_for_both
from aerogel.train.evaluate import evaluate
from aerogel.train.gradients import Objective
from aerogel.train.loop import steps_of
from aerogel.train.loss import TaskLoss
from aerogel.train.model import load_model
from aerogel.train.rehearsal import rehearse_evaluation
from aerogel.train.setup import TrainingJob

__all__ = ["FineTuning"]


class FineTuning:
    """The `TrainingSetup` of `aerogel train`."""

    def __init__(self, config: TrainConfig, task: Task) -> None:
        self.config, self.task = config, config.task
        self._task = task

    def load_data(self) -> dict[str, Any]:
        """Load the splits; returns the rows used and the SHA-256 of each."""
        self._data = _subset(self._task.load(self.config.data), self.config)
        return _fingerprint(self._data)

    def job(self, device: torch.device) -> TrainingJob:
        """Load the model with the head of the task and the teacher, and tokenize all rows."""
        config, task, data = self.config, self._task, self._data
        model, tokenizer = load_model(config.model, task, data.labels, config.max_length, config.seed)
        saved_tokenizer = copy.deepcopy(tokenizer)
        splits = {n: task.encode(split, tokenizer, config.max_length) for n, split in data.evaluation.items()}
        objective: Objective = TaskLoss()
        train_tokenizer = tokenizer
        if config.teacher is not None:
            teacher, teacher_tokenizer = load_teacher(
                config.teacher, task, data.labels, tokenizer, config.max_length
            )
            objective = Distillation(teacher.to(device), model, config)
            train_tokenizer = tokenizer_for_both(tokenizer, teacher, teacher_tokenizer)
        rows = Rows(task.encode(data.train, train_tokenizer, config.max_length))
        return TrainingJob(
            model,
            saved_tokenizer,
            rows,
            steps_of(len(rows), config),
            partial(evaluate, model, task, splits, config.batch),
            partial(rehearse_evaluation, model, task, splits, config.batch),
            objective,
            steps_of(len(rows), config, config.final_epochs),
        )


def _subset(data: TaskData, config: TrainConfig) -> TaskData:
    """Sample `config.train_rows` rows of the training split and `config.eval_rows` of each evaluation split."""
    # Evaluation rows do not depend on the seed: runs with different seeds must be comparable.
    evaluation = {name: _sample(split, config.eval_rows, 0) for name, split in data.evaluation.items()}
    return TaskData(_sample(data.train, config.train_rows, config.seed), evaluation)


def _sample(split: Split, count: int | None, seed: int) -> Split:
    """Sample `count` rows of a split without replacement; all rows for None."""
    if count is None or count >= len(split):
        return split
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(split), generator=generator)[:count].tolist()
    texts, labels = [split.texts[row] for row in rows], [split.labels[row] for row in rows]
    return dataclasses.replace(split, texts=texts, labels=labels)


def _fingerprint(data: TaskData) -> dict[str, Any]:
    """Rows used and SHA-256 of each split."""
    splits: Mapping[str, Split] = {"train": data.train} | {
        f"evaluation_{name}" if name else "evaluation": split for name, split in data.evaluation.items()
    }
    return {
        name: {"rows": len(split), "sha256": split.sha256}
        | ({"skipped": split.skipped} if split.skipped else {})
        for name, split in splits.items()
    }
