"""The training loop: one optimizer step after another, and nothing that a method or a task would have to know."""

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
from aerogel.train.progress import shown_steps
from aerogel.train.schedule import Cubic, linear_rate
from aerogel.train.state import State

__all__ = ["Loop", "steps_of"]

_LOG_EVERY = 50


def steps_of(rows: int, config: TrainConfig, epochs: int | None = None) -> int:
    """Optimizer steps of `epochs` passes over `rows` training rows; those of the configuration without."""
    return (config.epochs if epochs is None else epochs) * math.ceil(rows / config.batch)


class Loop:
    """A run of `schedule.total` optimizer steps.

    Args:
        config: of the run.
        model: with `method` attached; moved to the device.
        method: called around each step; it sets the masks.
        schedule: densities by step.
        rows: training rows.
        objective: the loss.
        processes: that share each step's rows.
        identity: what a saved state must have been written with (JSON values).
        before: steps of the run that lie before this loop's; its own count from 0 in `schedule`.

    Raises:
        UsageError: the method knows that it cannot reach its density.
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
        identity: dict[str, Any],
        before: int = 0,
    ) -> None:
        self.config, self.method, self.schedule, self.rows = config, method, schedule, rows
        self.processes, self.identity, self.before = processes, identity, before
        self.model = model.to(processes.device)
        method.prepare(model)
        method.check(self.at)
        scores = list(method.score_parameters())
        theirs = {id(p) for p in scores}
        weights = [p for p in model.parameters() if p.requires_grad and id(p) not in theirs]
        groups = [
            {"params": weights, "lr": config.lr},
            {"params": scores, "lr": config.score_lr or method.score_lr},
        ]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=0.0, fused=True)
        self.peaks = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.gradients = Gradients(config, model, objective, processes)
        self.step = 0

    def resume(self, state: State) -> None:
        """Go on from `state` instead of the beginning."""
        self.model.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        self.method.load_state_dict(state.method)
        self.gradients.scaler.load_state_dict(state.scaler)
        self.rows.seek(state.position)
        self.step = state.step - self.before

    def run(self, log: Log | NoLog, evaluate: Callable[[], dict[str, float]]) -> None:
        """Do all steps that are left, saving the state and evaluating as configured.

        Raises:
            TrainingError: the loss or a gradient stopped being finite, or another process ended.
        """
        config, total, before = self.config, self.schedule.total, self.before
        began, first = time.monotonic(), self.step
        mode = config.progress if self.processes.first else False
        with shown_steps(config.method, first, total, mode) as shown:
            batches = self.rows.batches(config.batch, config.seed, before + self.step)
            for batch in itertools.islice(batches, total - self.step):
                now = self.now()
                loss, noted = self.train_step(self.rows.batch(batch), now)
                density = now.density
                self.step += 1
                done = before + self.step
                shown.update(self.step, loss, density)
                if noted:
                    log.write("method", done, **noted)
                if done % _LOG_EVERY == 0 or self.step == total:
                    seconds = round((time.monotonic() - began) / (self.step - first), 4)
                    values = {"loss": loss, "lr": now.lr, "density": density, "seconds_per_step": seconds}
                    log.write("step", done, **values, **self.method.log_values())
                if self.step == total:
                    break
                if config.eval_every and done % config.eval_every == 0:
                    of_method = self.method.log_values()
                    log.write("evaluation", done, density=density, **of_method, **evaluate())
                if done % config.save_every == 0:
                    self._save(log)

    def now(self) -> StepContext:
        """What the schedules say of the next step."""
        return self.at(self.step)

    def at(self, index: int) -> StepContext:
        """What the schedules say of the step `index`."""
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
        self, batch: Mapping[str, torch.Tensor], now: StepContext
    ) -> tuple[float, Mapping[str, float]]:
        """One optimizer step on a whole batch; returns its loss and what there is to tell."""
        factor = linear_rate(self.step, self.schedule.warmup, self.schedule.total)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.model.train()
        seed_torch(self.config.seed, self.before + self.step)
        self.method.before_step(now)
        loss = self.gradients.compute(batch, self.before + self.step)
        self._demand_finite("loss", loss)
        scaler = self.gradients.scaler
        scaler.unscale_(self.optimizer)
        # After the parts' gradients are summed: the penalty counts once, however many there are.
        if (penalty := self.method.penalty()) is not None:
            self._demand_finite("penalty", penalty)
            penalty.backward()
        self.method.after_backward(now)
        norm = torch.nn.utils.clip_grad_norm_(self.gradients.parameters, self.config.clip)
        if not scaler.is_enabled():
            self._demand_finite("gradient", norm)
        before = scaler.get_scale()
        scaler.step(self.optimizer)
        scaler.update()
        if (scale := scaler.get_scale()) < before:
            # The gradients did not fit half precision, and the step was not made; the scale is lower now.
            if scale < 1.0:
                self._demand_finite("gradient", norm)
            noted: Mapping[str, float] = {"gradient_scale": scale}
        else:
            noted = self.method.after_step(now, self.optimizer)
        self.optimizer.zero_grad()
        return float(loss), noted

    def _demand_finite(self, what: str, value: torch.Tensor) -> None:
        if not bool(torch.isfinite(value)):
            again = " and run again with --restart" if self.config.state_path.exists() else ""
            raise TrainingError(
                f"the {what} is {float(value.detach()):g} at step {self.before + self.step}; "
                f"lower --lr or --score-lr{again}"
            )

    def _save(self, log: Log | NoLog) -> None:
        def save() -> None:
            state = State(
                step=self.before + self.step,
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                log_bytes=log.size(),
                position=self.rows.position(),
                method=self.method.state_dict(),
                scaler=self.gradients.scaler.state_dict(),
                fixed=self.before > 0,
            )
            state.save(self.config.state_path, self.identity)

        self.processes.on_first(save)
