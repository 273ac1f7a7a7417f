"""Does an artifact solve its checkpoint's task as well as the checkpoint does? Measured by the task's own metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.checkpoint import Record
from aerogel.data.features import Features, Outputs, collect
from aerogel.data.split import Split
from aerogel.data.task import Task
from aerogel.data.tasks import TASKS
from aerogel.errors import ExportError, ParityError, UsageError
from aerogel.export.parity import Runner
from aerogel.export.plan import Masked

if TYPE_CHECKING:
    from aerogel.export.reference_model import ReferenceModel

__all__ = ["ALLOWED_DROP", "TaskEval", "load_task_eval"]

ALLOWED_DROP = 0.5
"""Points, hundredths of a metric, that an artifact may lose."""

_ROWS = 32
# Differences of metrics are of rows, the rounding of a float counts none.
_NOTHING = 1e-9


@dataclass(frozen=True)
class TaskEval:
    """A task and what is known about the checkpoint on it.

    Attributes:
        name: name of the task.
        task: the task.
        splits: its evaluation splits by name.
        labels: the class names of its data.
        known: the checkpoint's metrics, if they were measured on these splits.
        max_length: tokens per row when they were; None if that is not known.
        allowed_drop: points that the artifact may be worse.
    """

    name: str
    task: Task
    splits: Mapping[str, Split]
    labels: tuple[str, ...] | None
    known: Mapping[str, float] | None
    max_length: int | None
    allowed_drop: float

    def hold(
        self,
        source: ReferenceModel,
        name: str,
        run: Runner,
        progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> dict[str, Any]:
        """Measure an artifact, and its checkpoint where that is not known yet.

        Args:
            source: the checkpoint's model.
            name: what the way to run the artifact is called.
            run: runs it.
            progress: told (stage, steps done, steps in all).

        Returns:
            The metrics of both, and how they came about.

        Raises:
            ParityError: a metric is worse by more than is allowed.
            ExportError: the model's outputs are not those of the task.
        """
        rows = sum(map(len, self.splits.values()))
        total = rows if self.known is not None else 2 * rows
        found = self._score(run, source, lambda done: progress("task", done, total))
        checkpoint, origin = self.known or {}, "aerogel.json"
        if not found.keys() <= checkpoint.keys():
            checkpoint = self._score(source.run, source, lambda done: progress("task", rows + done, 2 * rows))
            origin = "PyTorch"
        for metric, value in found.items():
            # Written so that a metric of outputs that are no numbers fails it.
            if not 100 * (checkpoint[metric] - value) <= self.allowed_drop + _NOTHING:
                raise ParityError(
                    f"{metric} on {self.name} is {100 * value:.2f} where the checkpoint has "
                    f"{100 * checkpoint[metric]:.2f}, and a drop of {self.allowed_drop:g} is allowed; store more "
                    "precisely, or raise --max-metric-drop"
                )
        return {
            "name": self.name,
            "runner": name,
            "rows": {split_name: len(split) for split_name, split in self.splits.items()},
            "metrics": found,
            "checkpoint": {metric: checkpoint[metric] for metric in found},
            "checkpoint_from": origin,
            "allowed_drop": self.allowed_drop,
        }

    def _score(
        self, run: Runner, source: ReferenceModel, progress: Callable[[int], None]
    ) -> dict[str, float]:
        """The task's metrics of one way to run the model; `progress` is told the rows done."""
        length = min(self.max_length or source.max_length, source.max_length)
        given = {
            name: self.task.encode(split, source.tokenizer, length) for name, split in self.splits.items()
        }
        outputs, done = {}, 0
        for name, features in given.items():
            outputs[name] = self._outputs(run, source, features, progress, done)
            done += len(self.splits[name])
        return self.task.score(outputs, given)

    def _outputs(
        self,
        run: Runner,
        source: ReferenceModel,
        features: Features,
        progress: Callable[[int], None],
        done: int,
    ) -> Outputs:
        """The task's outputs for each feature; like lengths are run together."""
        classes = self.task.classes(self.labels)

        def forward(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            found = run({name: array for name, array in batch.items() if name in source.inputs})
            rows, tokens = batch["input_ids"].shape
            shape = (rows, *[tokens] * self.task.per_token, *([classes] if classes else []))
            for name in self.task.outputs:
                array = found.get(name)
                if array is None or array.shape != shape:
                    what = f"{name} {list(array.shape)}" if array is not None else ", ".join(found)
                    raise ExportError(
                        f"--verify-task: the model gives {what} where {self.name} takes {name} {list(shape)}; "
                        "export without it"
                    )
            return {name: found[name] for name in self.task.outputs}

        def tell(count: int) -> None:
            # A row may have several features.
            progress(done + count * len(features.split) // len(features))

        return collect(
            features, forward, self.task.outputs, _ROWS, per_token=self.task.per_token, progress=tell
        )


def load_task_eval(checkpoint: Masked, data: Path | None, allowed_drop: float = ALLOWED_DROP) -> TaskEval:
    """Read the evaluation data of a checkpoint's task.

    Args:
        checkpoint: whose record names the task.
        data: directory of the task's files; None as in training: the hub's, or what the task makes itself.
        allowed_drop: points that an artifact may be worse.

    Raises:
        UsageError: the checkpoint has no task, or an unknown one, or the drop is none.
        DataError: the data cannot be read.
    """
    if not (math.isfinite(allowed_drop) and allowed_drop >= 0):
        raise UsageError(f"--max-metric-drop {allowed_drop} is out of range; give points, 0 or more")
    record = checkpoint.record
    if record.task is None:
        raise UsageError(
            f"--verify-task: {checkpoint.path} names no task; compare with --verify-text instead"
        )
    options = record.config.get("task_options", {})
    if not isinstance(options, dict):
        raise UsageError(f"--verify-task: {checkpoint.path} has no table of task_options; write it anew")
    task = TASKS.get(record.task).configured(options, record.task)
    loaded = task.load(data)
    splits = loaded.evaluation
    length = record.config.get("max_length")
    return TaskEval(
        name=record.task,
        task=task,
        splits=splits,
        labels=loaded.labels,
        known=record.metrics if _measured_on(record, splits) else None,
        max_length=length if type(length) is int and length > 0 else None,
        allowed_drop=allowed_drop,
    )


def _measured_on(record: Record, splits: Mapping[str, Split]) -> bool:
    """Whether the record's metrics are of these very splits."""
    for name, split in splits.items():
        entry = record.data.get(f"evaluation_{name}" if name else "evaluation")
        if not isinstance(entry, dict) or (entry.get("sha256"), entry.get("rows")) != (
            split.sha256,
            len(split),
        ):
            return False
    return bool(record.metrics)
