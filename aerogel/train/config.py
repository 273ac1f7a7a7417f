"""Configuration of a training run: settings that all runs share, and those of fine-tuning."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aerogel.errors import UsageError
from aerogel.sparse.masks import check_block
from aerogel.system.threads import check_threads
from aerogel.train.schedule import check_warmup

__all__ = ["RunConfig", "TrainConfig", "flag_of"]

# Settings of what is written, where and how often. They do not change the trained weights.
_OUTPUT_ONLY = ("out", "save_scores", "save_every", "eval_every", "restart", "log", "tensorboard", "progress")
_TEACHER_FIELDS = ("temperature", "kd_weight", "ce_weight", "hidden_weight")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings that all runs share. A field `max_length` is the flag `--max-length`.

    Attributes:
        out: checkpoint directory to write.
        method: name of a method; "dense" prunes nothing.
        options: options of the method by name, as text or typed values; checked when the run begins.
        model: directory or hub id of the model to start from; None for a task that creates its own model.
        freeze_mask: `model` is a checkpoint; keep its masks unchanged and train the kept weights.
        density: fraction of the encoder's weights kept at the end, in (0, 1].
        block: (rows, cols) kept or pruned together.
        scope: "local" (per matrix) or "global"; always global for methods whose density follows from a penalty.
        seed: seed of the head's initial weights, the order of the rows and dropout.
        batch: rows per optimizer step, summed over all processes.
        accumulate: micro-batches per optimizer step, summed over all processes; None for one per process.
        precision: of the forward and backward pass: "fp32", "bf16" or "fp16"; weights and optimizer stay float32.
        gradient_checkpointing: recompute activations in the backward pass instead of storing them.
        compile: compile the forward and backward pass with torch.compile.
        max_length: tokens per row; longer ones are cut.
        lr: peak learning rate of the weights.
        score_lr: peak learning rate of learned scores; None for the default of the method.
        warmup: learning-rate warm-up W: a fraction of all steps if below 1, else a number of steps.
        initial_warmup: length of the phase before pruning begins, in warm-ups W (iw); may be fractional.
        final_warmup: length of the phase at the final density, in warm-ups W (fw).
        clip: maximum norm of all gradients together.
        freeze_embeddings: None freezes them when a given model is pruned, as the movement-pruning paper does.
        save_scores: put the learnt scores beside the masks that they made (`aerogel.checkpoint.scores`).
        save_every: steps between saves of the resumable state.
        eval_every: steps between evaluations; None evaluates once, at the end.
        restart: discard a saved state and start from step 0.
        threads: CPU threads; None for the default of torch.
        device: "auto", "cpu" or "cuda".
        log: JSON-lines file; None for a file next to `out`.
        tensorboard: folder for TensorBoard event files; None writes none.
        progress: True shows a bar if standard error is a terminal; "lines" also prints a plain line every few seconds
            if it is not.
    """

    out: Path
    method: str = "dense"
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    freeze_mask: bool = False
    density: float = 1.0
    block: tuple[int, int] = (1, 1)
    scope: str = "local"
    seed: int = 0
    batch: int = 32
    accumulate: int | None = None
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    compile: bool = False
    max_length: int = 128
    lr: float = 3e-5
    score_lr: float | None = None
    warmup: float = 0.1
    initial_warmup: float = 1.0
    final_warmup: float = 2.0
    clip: float = 1.0
    freeze_embeddings: bool | None = None
    save_scores: bool = False
    save_every: int = 500
    eval_every: int | None = None
    restart: bool = False
    threads: int | None = None
    device: str = "auto"
    log: Path | None = None
    tensorboard: Path | None = None
    progress: bool | Literal["lines"] = True

    def __post_init__(self) -> None:
        """Check all values that do not depend on the data or the model.

        Raises:
            UsageError: a value is out of range; the message names the flag.
        """
        self._check_counts("batch", "accumulate", "max_length", "save_every", "eval_every")
        for name in ("lr", "score_lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{flag_of(name)} {value}: must be a positive number")
        for name in ("initial_warmup", "final_warmup"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{flag_of(name)} {value}: must be 0 or more, and finite")
        check_warmup(self.warmup)
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise UsageError(f"--precision {self.precision}: must be fp32, bf16 or fp16")
        if self.threads is not None:
            check_threads(self.threads, "--threads")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed {self.seed}: must be between 0 and 4294967295")
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {self.device}: must be auto, cpu or cuda")
        if self.scope not in ("local", "global"):
            raise UsageError(f"--scope {self.scope}: must be local or global")
        if not 0 < self.density <= 1:
            raise UsageError(f"--density {self.density:g}: must be above 0 and at most 1")
        check_block(self.block, self.block)
        self._check_output_paths()

    def _check_counts(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{flag_of(name)} {value}: must be at least 1")

    def _check_output_paths(self) -> None:
        """Check that no log is written inside `out`, which the checkpoint replaces, or to the file of the state."""
        log, out = self.log_path.resolve(), self.out.resolve()
        if log.is_relative_to(out) or out.is_relative_to(log):
            raise UsageError(f"--log {log}: must be outside --out {out}")
        if log == self.state_path:
            raise UsageError(f"--log {log}: the run saves its state in this file; choose another --log")
        if self.tensorboard and self.tensorboard.resolve().is_relative_to(out):
            raise UsageError(f"--tensorboard {self.tensorboard}: must be outside --out {out}")

    @property
    def state_path(self) -> Path:
        """File of the resumable state; it exists only while the run lasts."""
        return self._sibling("state.pt")

    @property
    def log_path(self) -> Path:
        """File of the JSON-lines log."""
        return self.log or self._sibling("log.jsonl")

    def _sibling(self, ending: str) -> Path:
        # `.` and `..` have no name to extend, so the path is resolved first.
        out = self.out.resolve()
        return out.with_name(f"{out.name}.{ending}")

    def models(self) -> dict[str, str | None]:
        """Models that the run reads, by field name."""
        return {"model": self.model}

    def inputs(self) -> dict[str, Path]:
        """Existing files and folders that the run reads, by field name; hub ids are skipped."""
        # os.path.exists returns False, and does not raise, for a hub id that is not a valid path.
        models = {name: value for name, value in self.models().items() if value}
        return {name: Path(value) for name, value in models.items() if os.path.exists(value)}  # noqa: PTH110

    def settings(self) -> dict[str, Any]:
        """Settings that affect the result, as JSON values: for the record of the checkpoint and for resuming."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if k not in _OUTPUT_ONLY}
        return values | {"block": list(self.block)}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Settings of `aerogel train`.

    Attributes:
        task: name of a task.
        data: directory of the task's files or of a saved dataset; None for the hub, or for a task that generates data.
        task_options: options of the task by name, as text or typed values; checked when the run begins.
        epochs: passes over the training rows.
        final_epochs: extra epochs with the mask fixed and a fresh learning-rate schedule.
        teacher: directory or hub id of a dense model, trained on the same task, for distillation.
        temperature: T; the logits of student and teacher are divided by it.
        kd_weight: weight of the distance to the teacher's outputs.
        ce_weight: weight of the loss on the labels, if there is a teacher.
        hidden_weight: weight of the distance to the teacher's hidden states; 0 turns the term off.
        train_rows: number of training rows, sampled with the seed; None for all.
        eval_rows: number of rows of each evaluation split, the same in every run; None for all.
    """

    task: str
    data: Path | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 3
    final_epochs: int = 0
    teacher: str | None = None
    temperature: float = 2.0
    kd_weight: float = 0.9
    ce_weight: float = 0.1
    hidden_weight: float = 0.0
    train_rows: int | None = None
    eval_rows: int | None = None

    def __post_init__(self) -> None:
        """See `RunConfig`."""
        super().__post_init__()
        self._check_counts("epochs", "train_rows", "eval_rows")
        if self.final_epochs < 0:
            raise UsageError(f"--final-epochs {self.final_epochs}: must be 0 or more")
        if self.final_epochs and self.save_scores:
            raise UsageError("--save-scores: scores end where --final-epochs begin; give one of them")
        self._check_teacher()

    def _check_teacher(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"--temperature {self.temperature}: must be a positive number")
        for name in _TEACHER_FIELDS[1:]:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{flag_of(name)} {value}: must be 0 or more, and finite")
        if self.teacher is not None:
            if not any(getattr(self, name) for name in _TEACHER_FIELDS[1:]):
                raise UsageError(
                    "--kd-weight, --ce-weight and --hidden-weight are all 0; set one of them above 0"
                )
            return
        for name in _TEACHER_FIELDS:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise UsageError(
                    f"{flag_of(name)} has no effect without --teacher; give --teacher or drop it"
                )

    def models(self) -> dict[str, str | None]:
        """See `RunConfig`."""
        return super().models() | {"teacher": self.teacher}

    def inputs(self) -> dict[str, Path]:
        """See `RunConfig`."""
        return super().inputs() | ({"data": self.data} if self.data else {})

    def settings(self) -> dict[str, Any]:
        """See `RunConfig`."""
        return super().settings() | {"data": str(self.data) if self.data else None}


def flag_of(name: str) -> str:
    """The flag of a field, such as --max-length for `max_length`."""
    return "--" + name.replace("_", "-")
