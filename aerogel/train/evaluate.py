"""Predictions and metrics of a model on a task's evaluation splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from aerogel.data.task import Task
from aerogel.errors import TrainingError
from aerogel.train.batches import Rows, length_order

__all__ = ["evaluate", "predict"]


@torch.inference_mode()
def predict(model: Any, rows: Rows, size: int) -> np.ndarray:
    """Logits float32 ``[rows, classes]`` in the order of the rows. Leaves the model in evaluation mode.

    Raises:
        TrainingError: a logit is not finite.
    """
    model.eval()
    device = next(model.parameters()).device
    result: np.ndarray | None = None
    for batch in length_order(rows.lengths, size):
        inputs = {k: v.to(device) for k, v in rows.batch(batch).items() if k != "labels"}
        logits = model(**inputs).logits.float().cpu().numpy()
        if result is None:
            result = np.empty((len(rows), logits.shape[1]), np.float32)
        result[batch] = logits
    assert result is not None, "splits have at least one row"
    if not np.isfinite(result).all():
        raise TrainingError("the model's outputs are not finite in evaluation; lower --lr or --score-lr")
    return result


def evaluate(model: Any, task: Task, splits: Mapping[str, Rows], size: int) -> dict[str, float]:
    """The task's metrics, named as `Task.score` names them.

    Raises:
        TrainingError: an output of the model is not finite.
    """
    logits = {name: predict(model, rows, size) for name, rows in splits.items()}
    return task.score(logits, {name: rows.labels.numpy() for name, rows in splits.items()})
