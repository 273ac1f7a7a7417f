"""Base class of heads with one logit per label."""

from __future__ import annotations

import numpy as np

from aerogel.errors import ArtifactError, UsageError
from aerogel.model.core import Core
from aerogel.model.head import Head
from aerogel.model.task import Task, activate

__all__ = ["Labelled", "check_count"]


class Labelled(Task):
    """A head with labels.

    Raises:
        ArtifactError: the numbers of labels and logits differ.
    """

    def __init__(self, head: Head, core: Core) -> None:
        super().__init__(head, core)
        width = core.outputs[head.output].width
        if head.labels is not None and width is not None:
            self._check_labels(head.labels, width)

    def _scores(self, logits: np.ndarray, *, raw: bool = False) -> np.ndarray:
        """float64 scores of logits ``[..., labels]``; with `raw`, the logits."""
        default = "sigmoid" if logits.shape[-1] == 1 else "softmax"
        return activate(logits, "identity" if raw else self._head.activation or default)

    def _names(self, count: int) -> tuple[str, ...]:
        """Labels of `count` logits."""
        names = self._head.labels
        if names is None:
            return tuple(f"LABEL_{number}" for number in range(count))
        self._check_labels(names, count)
        return names

    def _check_labels(self, names: tuple[str, ...], count: int) -> None:
        if len(names) != count:
            raise ArtifactError(
                f"{self._core.path}: the head has {len(names)} labels, but output {self._head.output} has {count}; "
                "correct id2label in config.json or export the model again"
            )


def check_count(name: str, count: int | None) -> None:
    """Check a number of results; messages call it `name`.

    Raises:
        UsageError: `count` is neither None nor an integer from 1.
    """
    if count is not None and (type(count) is not int or count < 1):
        raise UsageError(f"{name}={count!r} must be an integer from 1, or None for all")
