"""The contract of a head: what a module of `aerogel.model.heads` defines as ``HEAD``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aerogel.errors import ArtifactError
from aerogel.model.core import Core
from aerogel.model.head import Head

__all__ = ["Task", "activate"]

_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


class Task:
    """A kind of head on one model. Its public methods are those that the model has.

    Args:
        head: what the model computes.
        core: what runs it.

    Raises:
        ArtifactError: the session does not have the outputs that such a head reads.
    """

    RANKS: ClassVar[tuple[int, ...]]
    """Dimensions that an output may have: 2 for one row per text, 3 for one per token."""

    def __init__(self, head: Head, core: Core) -> None:
        self._head, self._core = head, core
        for name in self._outputs():
            port = core.outputs.get(name)
            if port is None:
                raise ArtifactError(
                    f"{core.path} has no output {name}, which a head of kind {head.kind} reads; "
                    f"it has {', '.join(core.outputs)}"
                )
            if port.type not in _FLOATS:
                raise ArtifactError(f"{core.path}: output {name} is a {port.type}; floats are known")
            if port.rank is not None and port.rank not in self.RANKS:
                wanted = " or ".join(map(str, self.RANKS))
                raise ArtifactError(
                    f"{core.path}: output {name} has {port.rank} dimensions; "
                    f"a head of kind {head.kind} reads {wanted}"
                )

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        """Names of the methods that the head gives a model."""
        own = (name for name in dir(cls) if not name.startswith("_") and not hasattr(Task, name))
        return tuple(name for name in own if callable(getattr(cls, name)))

    def _outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the head reads."""
        return (self._head.output,)

    def _refuse_rank(self, array: np.ndarray) -> ArtifactError:
        """The error for an output whose rank the file did not say, and which turns out to be another."""
        return ArtifactError(
            f"{self._core.path}: output {self._head.output} has shape {array.shape}; "
            f"a head of kind {self._head.kind} cannot read that"
        )


def activate(logits: np.ndarray, activation: str) -> np.ndarray:
    """Scores of logits.

    Args:
        logits: float32 ``[..., classes]``.
        activation: one of `aerogel.model.head.ACTIVATIONS`; softmax is over the last axis.

    Returns:
        float64 of the same shape.
    """
    values = logits.astype(np.float64)
    if activation == "identity":
        return values
    if activation == "sigmoid":
        # Of the two forms that are equal, the one whose exponential does not overflow.
        small = np.exp(-np.abs(values))
        found: np.ndarray = np.where(values >= 0, 1, small) / (1 + small)
        return found
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    scores: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return scores
