"""Gradients of a whole batch, computed in parts: by several processes, and by each in several goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aerogel.errors import UsageError
from aerogel.train.config import RunConfig
from aerogel.train.loss import counted
from aerogel.train.processes import Processes

__all__ = ["Gradients", "Objective", "seed_torch"]

Objective = Callable[[Any, Mapping[str, Tensor], Mapping[str, int]], Tensor]
"""Loss of a part of a batch: see `aerogel.train.loss.TaskLoss`."""

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def seed_torch(seed: int, step: int, stream: int = 0) -> None:
    """Seed torch's generators for a step of a run: stream 0 is the method's, n + 1 that of part n of the batch."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, stream)).generate_state(1)[0]))


class Gradients:
    """Forward and backward passes of a run.

    A batch is cut into parts of equal size, to within a row, and the parts are dealt out to the processes. What a part
    draws at random, as for dropout, depends on the seed, the step and the number of the part. So with the same number
    of parts it does not matter how many processes there are, but for the order in which parts are added up; of two
    parts there is but one.

    Args:
        config: of the run.
        model: on the device of `processes`.
        objective: the loss of a part.
        processes: that share the work.

    Raises:
        UsageError: the model or the device cannot do what `config` asks for.
    """

    def __init__(
        self, config: RunConfig, model: nn.Module, objective: Objective, processes: Processes
    ) -> None:
        self.config, self.objective, self.processes = config, objective, processes
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.parts = config.accumulate or processes.count
        device = processes.device.type
        if config.precision == "fp16" and device != "cuda":
            raise UsageError("--precision fp16 is for GPUs; on a CPU use bf16")
        if config.gradient_checkpointing:
            _checkpoint_activations(model)
        self.forward: Any = model
        if config.compile:
            # Batches are as long as their longest row: without dynamic shapes each length is compiled anew.
            self.forward = torch.compile(model, dynamic=True)
        # Without fp16 it passes everything through.
        self.scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")

    def compute(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        """Put the gradients of the whole batch's loss, scaled by `scaler`, into the parameters; the same everywhere.

        Args:
            batch: inputs and targets of all rows of the step, on the CPU.
            step: number of the step, which decides what is drawn at random.

        Returns:
            The loss of the whole batch, a scalar.
        """
        config, processes = self.config, self.processes
        counts = counted(batch)
        rows = counts["rows"]
        parts = self.parts
        mine = (place * parts // processes.count for place in (processes.index, processes.index + 1))
        total = torch.zeros((), device=processes.device)
        for part in range(*mine):
            first, end = part * rows // parts, (part + 1) * rows // parts
            if first == end:
                continue
            share = {name: value[first:end].to(processes.device) for name, value in batch.items()}
            seed_torch(config.seed, step, part + 1)
            with torch.autocast(
                processes.device.type, _TYPES.get(config.precision), enabled=config.precision in _TYPES
            ):
                loss = self.objective(self.forward, share, counts)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self._sum(total)
        return total

    def _sum(self, total: Tensor) -> None:
        if self.processes.count == 1:
            return
        for parameter in self.parameters:
            # A process may have had no row, and the model no use for the parameter.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.processes.sum([total, *gradients])


def _checkpoint_activations(model: Any) -> None:
    try:
        # The first is the newer name of the second in transformers.
        enable = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
    except (AttributeError, ValueError) as error:
        raise UsageError(
            f"--gradient-checkpointing: {type(model).__name__} cannot do that; drop it"
        ) from error
