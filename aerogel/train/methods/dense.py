"""No pruning: the dense baseline, and the model that pruning starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from aerogel.errors import UsageError
from aerogel.train.method import Method, SparsityConfig

__all__ = ["METHOD", "Dense"]


class Dense(Method):
    """Keep everything: no mask is put in front of any weight.

    Raises:
        UsageError: a density below 1, a block or a scope is asked for.
    """

    prunes = False

    def __init__(
        self, matrices: Mapping[str, nn.Linear], target: SparsityConfig, options: Any = None
    ) -> None:
        del matrices
        if target != SparsityConfig(density=1.0):
            raise UsageError(
                "--method dense prunes nothing; drop --density, --block and --scope, or choose a method"
            )
        super().__init__({}, target, options)

    def scores(self) -> dict[str, Tensor]:
        """None."""
        return {}


METHOD = Dense
