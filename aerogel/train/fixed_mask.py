"""Training with a fixed mask: the last phase of a run with `final_epochs`, and the base of the method `frozen`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel.train.method import Method, SparsityConfig, StepContext

__all__ = ["FixedMask"]


class FixedMask(Method):
    """Train the weights that `masks` keep. The masks do not change.

    Args:
        matrices: Linear modules, as `Method.fold` leaves them.
        sparsity: of the method that found the masks.
        masks: as `Method.fold` returns them; None if they will be loaded with a saved state.
        options: options of a subclass.
    """

    def __init__(
        self,
        matrices: Mapping[str, nn.Linear],
        sparsity: SparsityConfig,
        masks: Mapping[str, np.ndarray] | None = None,
        options: Any = None,
    ) -> None:
        super().__init__(matrices, sparsity, options)
        for name, mask in (masks or {}).items():
            self.masks[name].mask.copy_(torch.from_numpy(mask))

    def prepare(self, model: nn.Module) -> None:
        """Unfreeze the matrices, which the previous method may have frozen."""
        del model
        for weight in self.weights.values():
            weight.requires_grad_(True)

    def check(self, steps: Callable[[int], StepContext]) -> None:
        """Do nothing: the density is already reached."""

    def before_step(self, step: StepContext) -> None:
        """Do nothing: the masks are fixed."""

    def finalize(self) -> None:
        """Do nothing: the masks are fixed."""
