"""Gradients of a batch, computed in micro-batches by one or several processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aerogel.errors import UsageError
from aerogel.train.config import RunConfig
from aerogel.train.loss import target_counts
from aerogel.train.processes import Processes

__all__ = ["Gradients", "Objective", "seed_torch"]

Objective = Callable[[Any, Mapping[str, Tensor], Mapping[str, int]], Tensor]
"""Loss of a micro-batch, called as `aerogel.train.loss.TaskLoss` is."""

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def seed_torch(seed: int, step: int, stream: int = 0) -> None:
    """Seed torch for a step of a run. Stream 0 is for the method, stream n + 1 for micro-batch n."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, stream)).generate_state(1)[0]))


class Gradients:
    """Forward and backward passes of a run.

    A batch is divided into micro-batches of equal size, to within one row, and these are divided among the processes.
    Random numbers, as for dropout, depend on the seed, the step and the number of the micro-batch. So with the same
    number of micro-batches, another number of processes changes only the order of summation. With two micro-batches it
    changes nothing.

    Args:
        config: of the run.
        model: on the device of `processes`.
        objective: the loss of a micro-batch.
        processes: the processes of the run.

    Raises:
        UsageError: the model or the device does not support a setting of `config`.
    """

    def __init__(
        self, config: RunConfig, model: nn.Module, objective: Objective, processes: Processes
    ) -> None:
        self.config, self.objective, self.processes = config, objective, processes
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.micro_batches = config.accumulate or processes.count
        device = processes.device.type
        if config.precision == "fp16" and device != "cuda":
            raise UsageError("precision fp16: needs a GPU; use bf16 on a CPU")
        if config.gradient_checkpointing:
            _checkpoint_activations(model)
        self.forward: Any = model
        if config.compile:
            # Batches have many lengths. Without dynamic shapes, torch would compile the model again for each.
            self.forward = torch.compile(model, dynamic=True)
        # Does nothing without fp16.
        self.scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")

    def compute(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        """Add the gradients of the loss of the whole batch to the parameters, scaled by `scaler`.

        All processes end up with the same gradients.

        Args:
            batch: inputs and targets of all rows of the step, on the CPU.
            step: index of the step, which seeds the random numbers.

        Returns:
            The loss of the whole batch, a scalar.
        """
        config, processes = self.config, self.processes
        counts = target_counts(batch)
        rows = counts["rows"]
        count = self.micro_batches
        own = (index * count // processes.count for index in (processes.index, processes.index + 1))
        total = torch.zeros((), device=processes.device)
        for number in range(*own):
            first, end = number * rows // count, (number + 1) * rows // count
            if first == end:
                continue
            micro_batch = {name: value[first:end].to(processes.device) for name, value in batch.items()}
            seed_torch(config.seed, step, number + 1)
            with torch.autocast(
                processes.device.type, _TYPES.get(config.precision), enabled=config.precision in _TYPES
            ):
                loss = self.objective(self.forward, micro_batch, counts)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self._sum(total)
        return total

    def _sum(self, total: Tensor) -> None:
        if self.processes.count == 1:
            return
        for parameter in self.parameters:
            # A process may have no rows in this step, and the model may not use the parameter.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.processes.sum([total, *gradients])


def _checkpoint_activations(model: Any) -> None:
    try:
        # Newer versions of transformers have renamed the method.
        enable = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
    except (AttributeError, ValueError) as error:
        raise UsageError(
            f"gradient_checkpointing: {type(model).__name__} does not support it; turn it off"
        ) from error
