"""Base class of heads: a module of `aerogel.model.heads` defines a subclass as ``HEAD``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from aerogel.errors import ArtifactError
from aerogel.model.batch import Batch, Call
from aerogel.model.core import Core
from aerogel.model.head import Head
from aerogel.model.progress import Progress
from aerogel.model.tokenizer import Encoded

__all__ = ["Task", "activate"]

_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


class Task:
    """The head of a model. Its public methods return a `Call` and become methods of the model, which runs it.

    Args:
        head: description of the head.
        core: tokenizer and session of the model.

    Raises:
        ArtifactError: the session lacks an output that the head reads, or the output has another type or rank.
    """

    RANKS: ClassVar[tuple[int, ...]]
    """Ranks that an output may have. In rank 3, the second dimension is the tokens."""

    PER_TOKEN: ClassVar[bool] = False
    """Whether the second dimension of a rank 2 output is the tokens."""

    def __init__(self, head: Head, core: Core) -> None:
        self._head, self._core = head, core
        for name in self.outputs():
            port = core.outputs.get(name)
            if port is None:
                raise ArtifactError(
                    f"{core.path} has no output {name}, which a head of kind {head.kind} reads; "
                    f"it has {', '.join(core.outputs)}"
                )
            if port.type not in _FLOATS:
                raise ArtifactError(f"{core.path}: output {name} is a {port.type}; heads read floats")
            if port.rank is not None and port.rank not in self.RANKS:
                expected = " or ".join(map(str, self.RANKS))
                raise ArtifactError(
                    f"{core.path}: output {name} has {port.rank} dimensions; "
                    f"a head of kind {head.kind} reads {expected}"
                )

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        """Names of the model's methods for this head."""
        own = (name for name in dir(cls) if not name.startswith("_") and not hasattr(Task, name))
        return tuple(name for name in own if callable(getattr(cls, name)))

    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the head reads."""
        return (self._head.output,)

    def _call(self, encoded: Sequence[Encoded], finish: Callable[[Iterable[Batch]], Any]) -> Call:
        """The call that runs texts and turns their outputs into a result."""
        return Call(encoded, self.outputs(), finish)

    def run(self, call: Call, progress: Progress = False) -> Any:
        """Run a call of this head and return its result; see `Core.run`."""
        return call.finish(map(self.check, self._core.run(call.encoded, call.outputs, progress)))

    def check(self, batch: Batch) -> Batch:
        """Check the outputs of a batch and return it.

        Raises:
            ArtifactError: an output has a shape that the head cannot read; shapes may be unknown before the run.
        """
        for name, array in zip(self.outputs(), batch.arrays, strict=True):
            shape = np.shape(array)
            per_token = len(shape) == 3 or self.PER_TOKEN
            if len(shape) not in self.RANKS or (per_token and shape[1] != batch.longest):
                raise ArtifactError(
                    f"{self._core.path}: output {name} has shape {shape} for {batch.longest} tokens; "
                    f"a head of kind {self._head.kind} cannot read that"
                )
        return batch


def activate(logits: np.ndarray, activation: str) -> np.ndarray:
    """Turn logits into scores.

    Args:
        logits: float32 ``[..., classes]``.
        activation: one of `aerogel.model.head.ACTIVATIONS`; softmax applies to the last axis.

    Returns:
        float64 of the same shape.
    """
    values = logits.astype(np.float64)
    if activation == "identity":
        return values
    if activation == "sigmoid":
        # The form of the sigmoid whose exponential does not overflow.
        small = np.exp(-np.abs(values))
        sigmoid: np.ndarray = np.where(values >= 0, 1, small) / (1 + small)
        return sigmoid
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    scores: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return scores
