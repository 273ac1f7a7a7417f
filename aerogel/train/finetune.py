"""Fine-tuning on a task: its rows, its metrics, and a teacher where there is one."""

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
    """The regime of `aerogel train`."""

    def __init__(self, config: TrainConfig, task: Task) -> None:
        self.config, self.task = config, config.task
        self._task = task

    def load_data(self) -> dict[str, Any]:
        """Rows used and SHA-256 of each split."""
        self._data = _subset(self._task.load(self.config.data), self.config)
        return _identity(self._data)

    def job(self, device: torch.device) -> TrainingJob:
        """The model with the task's head; all rows, tokenised; the teacher."""
        config, task, data = self.config, self._task, self._data
        model, tokenizer = load_model(config.model, task, data.labels, config.max_length, config.seed)
        unused = copy.deepcopy(tokenizer)
        splits = {n: task.encode(split, tokenizer, config.max_length) for n, split in data.evaluation.items()}
        objective: Objective = TaskLoss()
        encoder = tokenizer
        if config.teacher is not None:
            teacher, own = load_teacher(config.teacher, task, data.labels, tokenizer, config.max_length)
            objective = Distillation(teacher.to(device), model, config)
            encoder = tokenizer_for_both(tokenizer, teacher, own)
        rows = Rows(task.encode(data.train, encoder, config.max_length))
        return TrainingJob(
            model,
            unused,
            rows,
            steps_of(len(rows), config),
            partial(evaluate, model, task, splits, config.batch),
            partial(rehearse_evaluation, model, task, splits, config.batch),
            objective,
            steps_of(len(rows), config, config.final_epochs),
        )


def _subset(data: TaskData, config: TrainConfig) -> TaskData:
    """Draw `config.train_rows` rows of the training split, and `config.eval_rows` of each evaluation split."""
    # Not drawn with the run's seed: runs that differ in nothing else must be comparable.
    evaluation = {name: _draw(split, config.eval_rows, 0) for name, split in data.evaluation.items()}
    return TaskData(_draw(data.train, config.train_rows, config.seed), evaluation)


def _draw(split: Split, count: int | None, seed: int) -> Split:
    """`count` rows of a split."""
    if count is None or count >= len(split):
        return split
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(split), generator=generator)[:count].tolist()
    texts, labels = [split.texts[row] for row in rows], [split.labels[row] for row in rows]
    return dataclasses.replace(split, texts=texts, labels=labels)


def _identity(data: TaskData) -> dict[str, Any]:
    """Rows used and SHA-256 of each split."""
    splits: Mapping[str, Split] = {"train": data.train} | {
        f"evaluation_{name}" if name else "evaluation": split for name, split in data.evaluation.items()
    }
    return {
        name: {"rows": len(split), "sha256": split.sha256}
        | ({"left_out": split.skipped} if split.skipped else {})
        for name, split in splits.items()
    }
