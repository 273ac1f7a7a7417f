"""Loss of a task, from the outputs of the model and the targets of the rows.

The models of transformers compute the same loss as a mean over the batch they get. If a batch is divided into
micro-batches of unequal size, the means of these do not add up to the mean of the batch. So the loss is computed here
as a sum, divided by the counts of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aerogel.data.features import IGNORED

__all__ = ["TARGETS", "TaskLoss", "Term", "model_inputs", "summed_loss", "target_counts", "terms"]


@dataclass(frozen=True)
class Term:
    """One part of a loss.

    Attributes:
        outputs: possible names of the logits among a model's outputs; the first one present is used.
        weight: weight of the term's mean in the loss.
        over_tokens: whether the classes are the tokens of the row, as for the start of an answer.
    """

    outputs: tuple[str, ...]
    weight: float = 1.0
    over_tokens: bool = False

    def logits(self, outputs: Mapping[str, Any]) -> Tensor:
        """The logits among a model's outputs, in float32."""
        logits: Tensor = next(outputs[name] for name in self.outputs if name in outputs)
        return logits.float()


TARGETS: Mapping[str, Term] = {
    "labels": Term(("logits", "prediction_logits")),
    "next_sentence_label": Term(("seq_relationship_logits",)),
    "start_positions": Term(("start_logits",), weight=0.5, over_tokens=True),
    "end_positions": Term(("end_logits",), weight=0.5, over_tokens=True),
}
"""Names of the targets that a batch can contain, and the term of the loss of each."""


def target_counts(batch: Mapping[str, Tensor]) -> dict[str, int]:
    """Number of entries that count in each target of a batch, and its number of "rows"."""
    targets = {name: int((batch[name] != IGNORED).sum()) for name in TARGETS if name in batch}
    return targets | {"rows": len(next(iter(batch.values())))}


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries of a batch without the targets."""
    return {name: value for name, value in batch.items() if name not in TARGETS}


def terms(batch: Mapping[str, Tensor], counts: Mapping[str, int]) -> list[tuple[Term, Tensor, float]]:
    """For each target of a batch: its term, the target, and the factor that scales a sum over entries."""
    return [
        (term, batch[name], term.weight / max(counts[name], 1))
        for name, term in TARGETS.items()
        if name in batch
    ]


class TaskLoss:
    """Cross-entropy, or squared error for a regression, of a micro-batch."""

    def __call__(self, model: Any, batch: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        """Loss of a micro-batch. The losses of all micro-batches add up to the mean loss of the batch.

        Args:
            model: a model of transformers, or a wrapper of one.
            batch: inputs and targets of the micro-batch, on the model's device.
            counts: `target_counts` of the whole batch.
        """
        outputs = model(**model_inputs(batch))
        losses = [f * summed_loss(term.logits(outputs), y) for term, y, f in terms(batch, counts)]
        return torch.stack(losses).sum()


def summed_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Sum of the loss over entries: logits ``[..., classes]`` and class indices ``[...]``, or values ``[rows]``."""
    if target.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), target, reduction="sum")
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="sum", ignore_index=IGNORED)
