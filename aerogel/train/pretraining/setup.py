"""Loss and metrics of pre-training: masked tokens and next sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aerogel.data.features import IGNORED
from aerogel.errors import TrainingError
from aerogel.train.loss import TARGETS, TaskLoss, inputs_of

__all__ = ["MaskedLoss", "measure_language"]


class MaskedLoss(TaskLoss):
    """`TaskLoss`, with the vocabulary's logits computed for the tokens to be predicted only.

    They are 15% of all, and the logits of all would cost a small model more than its encoder does.

    Args:
        model: of transformers, with a head for masked tokens.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, model: Any, batch: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        """See `TaskLoss`."""
        chosen = batch["labels"] != IGNORED
        with _only(self._model, chosen):
            return super().__call__(model, {**batch, "labels": batch["labels"][chosen]}, counts)


@contextmanager
def _only(model: Any, chosen: Tensor) -> Iterator[None]:
    """Inside, the model gives logits ``[chosen.sum(), vocabulary]`` for the tokens in `chosen` ``[rows, tokens]``."""
    projection = model.get_output_embeddings()
    handle = projection.register_forward_pre_hook(lambda _, hidden: (hidden[0][chosen],))
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def measure_language(model: Any, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Leaves the model in evaluation mode.

    Args:
        model: with a head for masked tokens, and one for next sentences if the batches have such labels.
        batches: see `aerogel.data.corpus.encode.TextEncoder.batch`.

    Returns:
        Over all masked tokens `mlm_loss` (mean cross entropy in nats) and `mlm_accuracy`; over all rows `nsp_accuracy`,
        if they are pairs.

    Raises:
        TrainingError: an output is not finite.
    """
    model.eval()
    device = next(model.parameters()).device
    loss, right, tokens, right_pairs, pairs, finite = 0.0, 0, 0, 0, 0, True
    for given in batches:
        batch = {name: value.to(device) for name, value in given.items()}
        chosen = batch["labels"] != IGNORED
        labels, order = batch["labels"][chosen], batch.get("next_sentence_label")
        with _only(model, chosen):
            outputs = model(**inputs_of(batch))
        logits = TARGETS["labels"].logits(outputs)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(-1) == labels).sum())
        tokens += len(labels)
        if order is not None:
            guess = TARGETS["next_sentence_label"].logits(outputs)
            finite = finite and bool(guess.isfinite().all())
            right_pairs += int((guess.argmax(-1) == order).sum())
            pairs += len(order)
    if not (finite and math.isfinite(loss)):
        raise TrainingError("the model's outputs are not finite in evaluation; lower --lr or --score-lr")
    found = {"mlm_loss": loss / max(tokens, 1), "mlm_accuracy": right / max(tokens, 1)}
    return found | ({"nsp_accuracy": right_pairs / pairs} if pairs else {})
