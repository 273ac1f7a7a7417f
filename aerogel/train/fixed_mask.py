"""Fine-tuning of the weights that a finished method left: the last phase of a run with `--final-epochs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel.train.method import Method, SparsityConfig, StepContext

__all__ = ["FixedMask"]


class FixedMask(Method):
    """Train what `masks` keep; the masks stay.

    Args:
        matrices: as they are after `Method.bake`.
        target: of the method before.
        masks: of `Method.bake`; None where a saved state is to bring them.
        options: of a method that is more than this.
    """

    def __init__(
        self,
        matrices: Mapping[str, nn.Linear],
        target: SparsityConfig,
        masks: Mapping[str, np.ndarray] | None = None,
        options: Any = None,
    ) -> None:
        super().__init__(matrices, target, options)
        for name, mask in (masks or {}).items():
            self.masks[name].mask.copy_(torch.from_numpy(mask))

    def prepare(self, model: nn.Module) -> None:
        """Train the matrices, also where the method before had frozen them."""
        del model
        for weight in self.weights.values():
            weight.requires_grad_(True)

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """The density is there already."""

    def before_step(self, step: StepContext) -> None:
        """Leave the masks as they are."""

    def settle(self) -> None:
        """Leave the masks as they are."""
