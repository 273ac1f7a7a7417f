"""How well a model predicts masked tokens and next sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aerogel.data.features import IGNORED
from aerogel.errors import TrainingError

__all__ = ["measure_language"]


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
        labels, order = batch.pop("labels"), batch.pop("next_sentence_label", None)
        outputs = model(**batch)
        chosen = labels != IGNORED
        logits = outputs["logits" if "logits" in outputs else "prediction_logits"][chosen].float()
        loss += float(F.cross_entropy(logits, labels[chosen], reduction="sum"))
        right += int((logits.argmax(-1) == labels[chosen]).sum())
        tokens += int(chosen.sum())
        if order is not None:
            guess = outputs["seq_relationship_logits"].float()
            finite = finite and bool(guess.isfinite().all())
            right_pairs += int((guess.argmax(-1) == order).sum())
            pairs += len(order)
    if not (finite and math.isfinite(loss)):
        raise TrainingError("the model's outputs are not finite in evaluation; lower --lr or --score-lr")
    found = {"mlm_loss": loss / max(tokens, 1), "mlm_accuracy": right / max(tokens, 1)}
    return found | ({"nsp_accuracy": right_pairs / pairs} if pairs else {})
