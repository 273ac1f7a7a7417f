"""The loss of a task, from the outputs of its model and the targets of its rows.

The models of transformers compute the same, as a mean over the batch they are given. Where a batch is cut into parts,
for several processes or to save memory, the means of parts of unequal size do not add up to the mean of the whole. So
sums are taken here and divided by the counts of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aerogel.data.features import IGNORED

__all__ = ["TARGETS", "TaskLoss", "Term", "counted", "inputs_of", "summed_loss", "terms"]


@dataclass(frozen=True)
class Term:
    """One part of a loss.

    Attributes:
        outputs: names under which models give the logits; the first that is there is meant.
        weight: of the term's mean in the loss.
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
"""What a batch may hold beside a model's inputs, and the term of the loss that it is the target of."""


def counted(batch: Mapping[str, Tensor]) -> dict[str, int]:
    """How many entries of each target in a batch count, and its "rows"."""
    targets = {name: int((batch[name] != IGNORED).sum()) for name in TARGETS if name in batch}
    return targets | {"rows": len(next(iter(batch.values())))}


def inputs_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What of a batch the model takes."""
    return {name: value for name, value in batch.items() if name not in TARGETS}


def terms(batch: Mapping[str, Tensor], counts: Mapping[str, int]) -> list[tuple[Term, Tensor, float]]:
    """Per target of a batch: its term, the target, and the factor that makes a sum over entries the term's share."""
    return [
        (term, batch[name], term.weight / max(counts[name], 1))
        for name, term in TARGETS.items()
        if name in batch
    ]


class TaskLoss:
    """Cross-entropy, or the squared error of a regression: the mean over the whole batch, for a part of it."""

    def __call__(self, model: Any, batch: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        """The part's share of the loss: shares of all parts add up to the loss of the whole batch.

        Args:
            model: a model of transformers, or what calls one.
            batch: inputs and targets of the part, on the model's device.
            counts: `counted` of the whole batch.
        """
        outputs = model(**inputs_of(batch))
        shares = [f * summed_loss(term.logits(outputs), y) for term, y, f in terms(batch, counts)]
        return torch.stack(shares).sum()


def summed_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Loss summed over entries: logits ``[..., classes]`` and indices ``[...]``, or values ``[rows]``."""
    if target.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), target, reduction="sum")
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="sum", ignore_index=IGNORED)
