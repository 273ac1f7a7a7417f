"""The full configuration of a run: what all have in common, and that of fine-tuning."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aerogel.errors import UsageError
from aerogel.sparse.masks import check_block, kept_count
from aerogel.system.threads import check_threads
from aerogel.train.schedule import check_warmup

__all__ = ["RunConfig", "TrainConfig", "flag_of"]

# What changes whether, where or how often something is written, but not what comes out.
_NEUTRAL = ("out", "save_scores", "save_every", "eval_every", "restart", "log", "tensorboard", "progress")
_OF_TEACHER = ("temperature", "kd_weight", "ce_weight", "hidden_weight")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What all runs have in common. Field names are the flags of the command line.

    Attributes:
        out: checkpoint directory to write.
        method: name of a method; "dense" prunes nothing.
        options: the method's own options by name, as text or typed values; checked when the run begins.
        model: directory or hub id of the model to start from; None for a task that brings a fresh one.
        freeze_mask: keep the masks of the checkpoint that `model` is, exactly, and train what they keep.
        density: fraction of the encoder's weights kept at the end, in (0, 1].
        block: (rows, cols) kept or dropped together.
        scope: "local" (per matrix) or "global"; always global where the density is a penalty's outcome.
        seed: decides the head's initial weights, the order of the rows and dropout.
        batch: rows per step, of all processes together.
        accumulate: parts that the rows of a step are computed in, of all processes together; None for one a process.
        precision: of the forward and backward pass, "fp32", "bf16" or "fp16"; weights and optimizer are float32.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        compile: have torch.compile make the forward and backward pass.
        max_length: tokens per row; longer ones are cut.
        lr: peak learning rate of the weights.
        score_lr: peak learning rate of learnt scores; None for the method's own.
        warmup: learning-rate warm-up, W_u: a fraction of all steps if below 1, else steps.
        initial_warmup: warm-ups before pruning begins (iw); need not be whole.
        final_warmup: warm-ups at the final density (fw).
        clip: bound on the norm of all gradients together.
        freeze_embeddings: None freezes them when pruning a given model, as the movement-pruning paper does.
        save_scores: put the learnt scores beside the masks that they made (`aerogel.checkpoint.scores`).
        save_every: steps between saves of the resumable state.
        eval_every: steps between evaluations; None evaluates once, at the end.
        restart: begin anew although a state to resume from is there.
        threads: CPU threads; None leaves it to torch.
        device: "auto", "cpu" or "cuda".
        log: JSON-lines file; None puts it beside `out`.
        tensorboard: folder for TensorBoard's event files; None writes none.
        progress: True shows a bar on standard error if that is a terminal; "lines" shows a plain line every few seconds
            where it is not.
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
        """Check every value that can be judged without the data and the model.

        Raises:
            UsageError: a value out of range; the message names the flag.
        """
        self._demand_counts("batch", "accumulate", "max_length", "save_every", "eval_every")
        for name in ("lr", "score_lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{flag_of(name)} {value}: must be a positive number")
        for name in ("initial_warmup", "final_warmup"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{flag_of(name)} {value}: must be a number of warm-ups, 0 or more")
        check_warmup(self.warmup)
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise UsageError(f"--precision {self.precision}: known are fp32, bf16, fp16")
        if self.threads is not None:
            check_threads(self.threads, "--threads")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed {self.seed}: must be from 0 to 4294967295")
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {self.device}: known are auto, cpu, cuda")
        if self.scope not in ("local", "global"):
            raise UsageError(f"--scope {self.scope}: known are local, global")
        kept_count(self.density, 1)
        check_block(self.block, self.block)
        self._check_outside()

    def _demand_counts(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{flag_of(name)} {value}: must be at least 1")

    def _check_outside(self) -> None:
        """The checkpoint replaces all of `out`, and the state comes and goes: neither place is one for a log."""
        log, out = self.log_path.resolve(), self.out.resolve()
        if log.is_relative_to(out) or out.is_relative_to(log):
            raise UsageError(f"--log {log}: must be outside of --out {out}")
        if log == self.state_path:
            raise UsageError(f"--log {log}: the state of the run is kept there; choose another --log")
        if self.tensorboard and self.tensorboard.resolve().is_relative_to(out):
            raise UsageError(f"--tensorboard {self.tensorboard}: must be outside of --out {out}")

    @property
    def state_path(self) -> Path:
        """Where the resumable state is kept while the run lasts."""
        return self._beside("state.pt")

    @property
    def log_path(self) -> Path:
        """The JSON-lines log."""
        return self.log or self._beside("log.jsonl")

    def _beside(self, ending: str) -> Path:
        # Resolved because `.` and `..` have no name to add to.
        out = self.out.resolve()
        return out.with_name(f"{out.name}.{ending}")

    def models(self) -> dict[str, str | None]:
        """The models that the run reads, by what they are."""
        return {"model": self.model}

    def inputs(self) -> dict[str, Path]:
        """The files and folders that the run reads, by flag; a hub id that is no path is left out."""
        # os.path says no, and does not raise, where a hub id is no path at all.
        models = {flag_of(name): value for name, value in self.models().items() if value}
        return {flag: Path(value) for flag, value in models.items() if os.path.exists(value)}  # noqa: PTH110

    def settings(self) -> dict[str, Any]:
        """What decides the outcome, as JSON values: for the checkpoint's record and for resuming."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if k not in _NEUTRAL}
        return values | {"block": list(self.block)}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Everything that decides the outcome of `aerogel train`.

    Attributes:
        task: name of a task.
        data: directory of the task's files or of a saved dataset; None for the hub, or a task that makes its data.
        task_options: the task's own options by name, as text or typed values; checked when the run begins.
        epochs: passes over the training rows.
        final_epochs: further passes after these, with the masks fixed and the learning rates beginning anew.
        teacher: directory or hub id of a dense model of the same task to learn from.
        temperature: T that the logits of student and teacher are divided by.
        kd_weight: of the distance to the teacher's outputs in the loss.
        ce_weight: of the task's own loss, where there is a teacher.
        hidden_weight: of the distance to the teacher's hidden states; 0 leaves them out.
        train_rows: train on so many rows, drawn with the seed; None for all.
        eval_rows: evaluate on so many rows of each split, the same in every run; None for all.
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
        self._demand_counts("epochs", "train_rows", "eval_rows")
        if self.final_epochs < 0:
            raise UsageError(f"--final-epochs {self.final_epochs}: must be 0 or more")
        if self.final_epochs and self.save_scores:
            raise UsageError("--save-scores: scores end where --final-epochs begin; give one of them")
        self._check_teacher()

    def _check_teacher(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"--temperature {self.temperature}: must be a positive number")
        for name in _OF_TEACHER[1:]:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{flag_of(name)} {value}: must be a number, 0 or more")
        if self.teacher is not None:
            if not any(getattr(self, name) for name in _OF_TEACHER[1:]):
                raise UsageError(
                    "--kd-weight, --ce-weight and --hidden-weight are all 0; nothing is to be learnt"
                )
            return
        for name in _OF_TEACHER:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise UsageError(f"{flag_of(name)} is of no use without --teacher; give one or drop it")

    def models(self) -> dict[str, str | None]:
        """See `RunConfig`."""
        return super().models() | {"teacher": self.teacher}

    def inputs(self) -> dict[str, Path]:
        """See `RunConfig`."""
        return super().inputs() | ({"--data": self.data} if self.data else {})

    def settings(self) -> dict[str, Any]:
        """See `RunConfig`."""
        return super().settings() | {"data": str(self.data) if self.data else None}


def flag_of(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")
