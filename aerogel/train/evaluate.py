"""Predictions and metrics of a model on the evaluation splits of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from aerogel.data.features import Features, Outputs, collect
from aerogel.data.task import Task
from aerogel.errors import TrainingError

__all__ = ["evaluate", "predict"]


@torch.inference_mode()
def predict(model: Any, task: Task, features: Features, size: int) -> Outputs:
    """Compute the model's outputs for each feature, in float32. The model is in evaluation mode afterwards.

    Raises:
        TrainingError: an output is not finite.
    """
    model.eval()
    device = next(model.parameters()).device

    def forward(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        result = model(**{name: torch.from_numpy(array).to(device) for name, array in batch.items()})
        arrays = {name: result[name].float().cpu().numpy() for name in task.outputs}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise TrainingError("the model's outputs in evaluation contain NaN or Inf; lower lr or score_lr")
        return arrays

    return collect(features, forward, task.outputs, size, per_token=task.per_token)


def evaluate(model: Any, task: Task, splits: Mapping[str, Features], size: int) -> dict[str, float]:
    """Compute the metrics of the task, by the names that `Task.score` gives them.

    Raises:
        TrainingError: an output of the model is not finite.
    """
    outputs = {name: predict(model, task, features, size) for name, features in splits.items()}
    return task.score(outputs, splits)
