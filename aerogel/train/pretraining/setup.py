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
from aerogel.train.loss import TARGETS, TaskLoss, model_inputs

__all__ = ["MaskedLoss", "evaluate_language"]


class MaskedLoss(TaskLoss):
    """`TaskLoss` that computes vocabulary logits only for the masked tokens.

    These are 15% of all tokens. In a small model, the logits of all tokens would cost more than the encoder.

    Args:
        model: a model of transformers with a masked-token head.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, model: Any, batch: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        """See `TaskLoss`."""
        masked = batch["labels"] != IGNORED
        with _only(self._model, masked):
            return super().__call__(model, {**batch, "labels": batch["labels"][masked]}, counts)


@contextmanager
def _only(model: Any, tokens: Tensor) -> Iterator[None]:
    """Within the block, the model computes logits ``[n, vocabulary]`` of the n tokens set in ``[rows, tokens]``."""
    projection = model.get_output_embeddings()
    handle = projection.register_forward_pre_hook(lambda _, hidden: (hidden[0][tokens],))
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def evaluate_language(model: Any, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Compute loss and accuracy on held-out text. The model is in evaluation mode afterwards.

    Args:
        model: with a masked-token head, and a next-sentence head if the batches have such labels.
        batches: see `aerogel.data.corpus.encode.TextEncoder.batch`.

    Returns:
        `mlm_loss` (mean cross-entropy in nats) and `mlm_accuracy` over all masked tokens; `nsp_accuracy` over all rows,
        if they are pairs.

    Raises:
        TrainingError: an output is not finite.
    """
    model.eval()
    device = next(model.parameters()).device
    loss, correct, tokens, correct_pairs, pairs, finite = 0.0, 0, 0, 0, 0, True
    for cpu_batch in batches:
        batch = {name: value.to(device) for name, value in cpu_batch.items()}
        masked = batch["labels"] != IGNORED
        labels, order = batch["labels"][masked], batch.get("next_sentence_label")
        with _only(model, masked):
            outputs = model(**model_inputs(batch))
        logits = TARGETS["labels"].logits(outputs)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(-1) == labels).sum())
        tokens += len(labels)
        if order is not None:
            pair_logits = TARGETS["next_sentence_label"].logits(outputs)
            finite = finite and bool(pair_logits.isfinite().all())
            correct_pairs += int((pair_logits.argmax(-1) == order).sum())
            pairs += len(order)
    if not (finite and math.isfinite(loss)):
        raise TrainingError("the model's outputs in evaluation contain NaN or Inf; lower lr or score_lr")
    metrics = {"mlm_loss": loss / max(tokens, 1), "mlm_accuracy": correct / max(tokens, 1)}
    return metrics | ({"nsp_accuracy": correct_pairs / pairs} if pairs else {})
