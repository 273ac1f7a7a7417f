"""No pruning: trains the dense baseline, or the model that pruning starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from aerogel.errors import UsageError
from aerogel.train.method import Method, SparsityConfig

__all__ = ["METHOD", "Dense"]


class Dense(Method):
    """Keep all weights; no masks are created.

    Raises:
        UsageError: a density below 1, a block or a scope is set.
    """

    prunes = False

    def __init__(
        self, matrices: Mapping[str, nn.Linear], sparsity: SparsityConfig, options: Any = None
    ) -> None:
        del matrices
        if sparsity != SparsityConfig(density=1.0):
            raise UsageError(
                "method dense prunes nothing; drop density, block and scope, or choose another method"
            )
        super().__init__({}, sparsity, options)

    def scores(self) -> dict[str, Tensor]:
        """No scores."""
        return {}


METHOD = Dense
