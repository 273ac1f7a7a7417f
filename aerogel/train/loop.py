"""Training loop: runs optimizer steps, calls the hooks of the method, logs, evaluates and saves the state."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from aerogel.errors import TrainingError
from aerogel.train.batches import Rows
from aerogel.train.config import RunConfig, TrainConfig
from aerogel.train.gradients import Gradients, Objective, seed_torch
from aerogel.train.log import Log, NoLog
from aerogel.train.method import Method, StepContext
from aerogel.train.pretraining.rows import TextRows
from aerogel.train.processes import Processes
from aerogel.train.progress import show_progress
from aerogel.train.schedule import Cubic, linear_rate
from aerogel.train.state import State

__all__ = ["Loop", "steps_of"]

_LOG_EVERY = 50


def steps_of(rows: int, config: TrainConfig, epochs: int | None = None) -> int:
    """Number of optimizer steps for `epochs` passes over `rows` rows; `config.epochs` by default."""
    return (config.epochs if epochs is None else epochs) * math.ceil(rows / config.batch)


class Loop:
    """Trains a model for `schedule.total` optimizer steps.

    Args:
        config: of the run.
        model: with `method` attached; moved to the device.
        method: called around each step; it sets the masks.
        schedule: density at each step.
        rows: training rows.
        objective: the loss.
        processes: the processes of the run; they share the rows of each step.
        fingerprint: settings, data and versions of the run (JSON values); only a run with the same ones can resume from
            a saved state.
        offset: steps of the run before this loop; steps in `schedule` count from 0.

    Raises:
        UsageError: the method cannot reach its density.
    """

    def __init__(
        self,
        config: RunConfig,
        model: Any,
        method: Method,
        schedule: Cubic,
        rows: Rows | TextRows,
        objective: Objective,
        processes: Processes,
        fingerprint: dict[str, Any],
        offset: int = 0,
    ) -> None:
        self.config, self.method, self.schedule, self.rows = config, method, schedule, rows
        self.processes, self.fingerprint, self.offset = processes, fingerprint, offset
        self.model = model.to(processes.device)
        method.prepare(model)
        method.check(self.context_at)
        scores = list(method.score_parameters())
        score_ids = {id(p) for p in scores}
        weights = [p for p in model.parameters() if p.requires_grad and id(p) not in score_ids]
        groups = [
            {"params": weights, "lr": config.lr},
            {"params": scores, "lr": config.score_lr or method.score_lr},
        ]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=0.0, fused=True)
        self.peak_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.gradients = Gradients(config, model, objective, processes)
        self.step = 0

    def resume(self, state: State) -> None:
        """Continue from a saved state."""
        self.model.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        self.method.load_state_dict(state.method)
        self.gradients.scaler.load_state_dict(state.scaler)
        self.rows.seek(state.position)
        self.step = state.step - self.offset

    def run(self, log: Log | NoLog, evaluate: Callable[[], dict[str, float]]) -> None:
        """Run the remaining steps; save the state and evaluate as configured.

        Raises:
            TrainingError: the loss or a gradient is NaN or Inf, or another process has ended.
        """
        config, total, offset = self.config, self.schedule.total, self.offset
        start, first = time.monotonic(), self.step
        mode = config.progress if self.processes.first else False
        with show_progress(config.method, first, total, mode) as display:
            batches = self.rows.batches(config.batch, config.seed, offset + self.step)
            for batch in itertools.islice(batches, total - self.step):
                context = self.context()
                loss, events = self.train_step(self.rows.batch(batch), context)
                density = context.density
                self.step += 1
                done = offset + self.step
                display.update(self.step, loss, density)
                if events:
                    log.write("method", done, **events)
                if done % _LOG_EVERY == 0 or self.step == total:
                    seconds = round((time.monotonic() - start) / (self.step - first), 4)
                    values = {"loss": loss, "lr": context.lr, "density": density, "seconds_per_step": seconds}
                    log.write("step", done, **values, **self.method.log_values())
                if self.step == total:
                    break
                if config.eval_every and done % config.eval_every == 0:
                    values = self.method.log_values()
                    log.write("evaluation", done, density=density, **values, **evaluate())
                if done % config.save_every == 0:
                    self._save(log)

    def context(self) -> StepContext:
        """Context of the next step."""
        return self.context_at(self.step)

    def context_at(self, index: int) -> StepContext:
        """Context of the step `index`: its density and learning rates."""
        schedule = self.schedule
        factor = linear_rate(index, schedule.warmup, schedule.total)
        begin, finish = map(math.ceil, schedule.descent)
        return StepContext(
            index=index,
            total=schedule.total,
            density=schedule.density(index),
            progress=schedule.progress(index),
            lr=self.config.lr * factor,
            score_lr=(self.config.score_lr or self.method.score_lr) * factor,
            begin=begin,
            finish=finish,
            warmup=schedule.warmup,
        )

    def train_step(
        self, batch: Mapping[str, torch.Tensor], context: StepContext
    ) -> tuple[float, Mapping[str, float]]:
        """Run one optimizer step on a whole batch; returns its loss and the values for a "method" line of the log."""
        factor = linear_rate(self.step, self.schedule.warmup, self.schedule.total)
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * factor
        self.model.train()
        seed_torch(self.config.seed, self.offset + self.step)
        self.method.before_step(context)
        loss = self.gradients.compute(batch, self.offset + self.step)
        self._check_finite("loss", loss)
        scaler = self.gradients.scaler
        scaler.unscale_(self.optimizer)
        # Added after the gradients of all micro-batches are summed, so that the penalty counts once.
        if (penalty := self.method.penalty()) is not None:
            self._check_finite("penalty", penalty)
            penalty.backward()
        self.method.after_backward(context)
        norm = torch.nn.utils.clip_grad_norm_(self.gradients.parameters, self.config.clip)
        if not scaler.is_enabled():
            self._check_finite("gradient", norm)
        before = scaler.get_scale()
        scaler.step(self.optimizer)
        scaler.update()
        if (scale := scaler.get_scale()) < before:
            # The gradients overflowed in half precision: the optimizer skipped the step and the scale was lowered.
            if scale < 1.0:
                self._check_finite("gradient", norm)
            events: Mapping[str, float] = {"gradient_scale": scale}
        else:
            events = self.method.after_step(context, self.optimizer)
        self.optimizer.zero_grad()
        return float(loss), events

    def _check_finite(self, name: str, value: torch.Tensor) -> None:
        if not bool(torch.isfinite(value)):
            restart = " and run again with restart" if self.config.state_path.exists() else ""
            raise TrainingError(
                f"the {name} is {float(value.detach()):g} at step {self.offset + self.step}; "
                f"lower lr or score_lr{restart}"
            )

    def _save(self, log: Log | NoLog) -> None:
        def save() -> None:
            state = State(
                step=self.offset + self.step,
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                log_bytes=log.size(),
                position=self.rows.position(),
                method=self.method.state_dict(),
                scaler=self.gradients.scaler.state_dict(),
                fixed=self.offset > 0,
            )
            state.save(self.config.state_path, self.fingerprint)

        self.processes.on_first(save)
