"""The contract of a head: what a module of `aerogel.model.heads` defines as ``HEAD``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from aerogel.errors import ArtifactError
from aerogel.model.core import Batch, Core
from aerogel.model.head import Head
from aerogel.model.progress import Progress
from aerogel.model.tokenizer import Encoded

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
    """Dimensions that an output may have. The second of three is the tokens."""

    PER_TOKEN: ClassVar[bool] = False
    """Whether the second of two dimensions is the tokens."""

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

    def _run(self, encoded: Sequence[Encoded], progress: Progress = False) -> Iterator[Batch]:
        """Run texts, as `Core.run` does.

        Raises:
            ArtifactError: an output has another shape than the head reads; a file need not say its shape beforehand.
        """
        names = self._outputs()
        for batch in self._core.run(encoded, names, progress):
            for name, array in zip(names, batch.arrays, strict=True):
                per_token = array.ndim == 3 or self.PER_TOKEN
                if array.ndim not in self.RANKS or (per_token and array.shape[1] != batch.longest):
                    raise ArtifactError(
                        f"{self._core.path}: output {name} has shape {array.shape} for {batch.longest} tokens; "
                        f"a head of kind {self._head.kind} cannot read that"
                    )
            yield batch


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
