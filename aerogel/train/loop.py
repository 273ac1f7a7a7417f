"""The training loop: one optimizer step after another, and nothing that a method or a task would have to know."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aerogel.errors import TrainingError
from aerogel.train.batches import Rows
from aerogel.train.config import TrainConfig
from aerogel.train.log import Log
from aerogel.train.method import Method, Step
from aerogel.train.schedule import Cubic, linear_rate
from aerogel.train.state import State

__all__ = ["Loop", "steps_of"]

_LOG_EVERY = 50


def steps_of(rows: int, config: TrainConfig) -> int:
    """Optimizer steps of a run over `rows` training rows."""
    return config.epochs * math.ceil(rows / config.batch)


class Loop:
    """A run of `schedule.total` optimizer steps.

    Args:
        config: of the run.
        model: with `method` attached.
        method: called around each step; it sets the masks.
        schedule: densities by step.
        rows: training rows.
        accelerator: device placement, backward pass, clipping.
        log: where the progress is recorded.
        identity: what a saved state must have been written with (JSON values).
    """

    def __init__(
        self,
        config: TrainConfig,
        model: Any,
        method: Method,
        schedule: Cubic,
        rows: Rows,
        accelerator: Accelerator,
        identity: dict[str, Any],
    ) -> None:
        self.config, self.method, self.schedule, self.rows = config, method, schedule, rows
        self.accelerator, self.identity = accelerator, identity
        method.prepare(model)
        scores = list(method.score_parameters())
        theirs = {id(p) for p in scores}
        weights = [p for p in model.parameters() if p.requires_grad and id(p) not in theirs]
        groups = [
            {"params": weights, "lr": config.lr},
            {"params": scores, "lr": config.score_lr or method.score_lr},
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=0.0)
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.step = 0

    def resume(self, state: State) -> None:
        """Go on from `state` instead of the beginning."""
        self.model.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        self.method.load_state_dict(state.method)
        torch.set_rng_state(state.random["cpu"])
        if "cuda" in state.random:
            torch.cuda.set_rng_state(state.random["cuda"])
        self.rows.seek(state.position)
        self.step = state.step

    def run(self, log: Log, evaluate: Callable[[], dict[str, float]]) -> None:
        """Do all steps that are left, saving the state and evaluating as configured.

        Raises:
            TrainingError: the loss or a gradient stopped being finite.
        """
        config, total = self.config, self.schedule.total
        began, first = time.monotonic(), self.step
        with _progress(config.progress) as bar:
            task = bar.add_task(config.method, total=total, completed=self.step, loss=0.0, density=1.0)
            batches = self.rows.batches(config.batch, config.seed, self.step)
            for batch in itertools.islice(batches, total - self.step):
                now = self._now()
                loss, noted = self._train(batch, now)
                density = now.density
                self.step += 1
                bar.update(task, completed=self.step, loss=loss, density=density)
                if noted:
                    log.write("method", self.step, **noted)
                if self.step % _LOG_EVERY == 0 or self.step == total:
                    seconds = round((time.monotonic() - began) / (self.step - first), 4)
                    values = {"loss": loss, "lr": now.lr, "density": density, "seconds_per_step": seconds}
                    log.write("step", self.step, **values, **self.method.log_values())
                if config.eval_every and self.step % config.eval_every == 0 and self.step < total:
                    log.write("evaluation", self.step, density=density, **evaluate())
                if self.step % config.save_every == 0 and self.step < total:
                    self._save(log)

    def _now(self) -> Step:
        schedule, at = self.schedule, self.step
        rate = self.config.lr * linear_rate(at, schedule.warmup, schedule.total)
        return Step(at, schedule.total, schedule.density(at), schedule.progress(at), rate)

    def _train(self, batch: list[int], now: Step) -> tuple[float, Mapping[str, float]]:
        """One optimizer step; returns the task's loss and what the method has to tell."""
        factor = linear_rate(self.step, self.schedule.warmup, self.schedule.total)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.model.train()
        self.method.before_step(now)
        inputs = {k: v.to(self.accelerator.device) for k, v in self.rows.batch(batch).items()}
        loss = self.model(**inputs).loss
        self._demand_finite("loss", loss)
        penalty = self.method.penalty()
        self.accelerator.backward(loss if penalty is None else loss + penalty)
        self.method.after_backward(now)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self._demand_finite("gradient", norm)
        self.optimizer.step()
        noted = self.method.after_step(now, self.optimizer)
        self.optimizer.zero_grad()
        return float(loss.detach()), noted

    def _demand_finite(self, what: str, value: torch.Tensor) -> None:
        if not bool(torch.isfinite(value)):
            again = " and run again with --restart" if self.config.state_path.exists() else ""
            raise TrainingError(
                f"the {what} is {float(value.detach()):g} at step {self.step}; lower --lr or --score-lr{again}"
            )

    def _save(self, log: Log) -> None:
        random = {"cpu": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        state = State(
            self.step,
            self.model.state_dict(),
            self.optimizer.state_dict(),
            random,
            log.size(),
            self.rows.position(),
            self.method.state_dict(),
        )
        state.save(self.config.state_path, self.identity)


def _progress(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("density {task.fields[density]:.3f}  loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
        console=console,
        disable=not (shown and console.is_terminal),
    )
