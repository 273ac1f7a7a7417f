from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from aerogel.train.loss import TaskLoss, target_counts


def config(**values: Any) -> Any:
    return transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16, **values,
    )  # fmt: skip


def batch(**targets: list[Any]) -> dict[str, torch.Tensor]:
    rows = len(next(iter(targets.values())))
    ids = torch.randint(20, (rows, 6), generator=torch.Generator().manual_seed(0))
    values = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return values | {name: torch.tensor(value) for name, value in targets.items()}


def test_loss_matches_hand_computed_value() -> None:
    # -log softmax of equal logits is log 2; of the larger logit with a difference of log 3 it is log(4 / 3).
    outputs = {"logits": torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])}
    rows = {"input_ids": torch.zeros(2, 1), "labels": torch.tensor([1, 0])}
    loss = TaskLoss()(lambda **_: outputs, rows, target_counts(rows))
    assert float(loss) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


@pytest.mark.parametrize(
    ("head", "targets"),
    [
        ("SequenceClassification", {"labels": [0, 2, 1, 1, 0]}),
        ("SequenceClassification", {"labels": [0.5, 4.0, 1.25, 2.0, 3.0]}),
        ("TokenClassification", {"labels": [[-100, 1, 2, 0, -100, -100], [-100] * 6, [0] * 6, [1] * 6, [2] * 6]}),
        ("QuestionAnswering", {"start_positions": [0, 1, 2, 0, 5], "end_positions": [0, 3, 2, 1, 5]}),
        ("MaskedLM", {"labels": [[-100, 1, 2, 0, -100, -100], [3, *[-100] * 5], [-100] * 6, [1] * 6, [2] * 6]}),
        ("PreTraining", {"labels": [[-100, 7, *[-100] * 4]] * 5, "next_sentence_label": [0, 1, 1, 0, 1]}),
    ],
)  # fmt: skip
def test_micro_batch_losses_add_up_to_loss_of_transformers(head: str, targets: dict[str, list[Any]]) -> None:
    torch.manual_seed(0)
    labels = 1 if isinstance(targets.get("labels", [0])[0], float) else 2 if "Answer" in head else 3
    model = getattr(transformers, f"AutoModelFor{head}").from_config(config(num_labels=labels))
    whole = batch(**targets)
    counts = target_counts(whole)
    expected = model.eval()(**whole).loss
    expected.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = 0.0
    for first, end in ((0, 2), (2, 3), (3, 5)):
        loss = TaskLoss()(model, {name: value[first:end] for name, value in whole.items()}, counts)
        loss.backward()
        total += loss.detach()
    torch.testing.assert_close(total, expected.detach())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-7, rtol=1e-5)


def test_loss_without_labels_is_zero() -> None:
    logits = torch.zeros(1, 3, 2, requires_grad=True)
    rows = {"input_ids": torch.zeros(1, 3), "labels": torch.full((1, 3), -100)}
    loss = TaskLoss()(lambda **_: SimpleNamespace(logits=logits).__dict__, rows, target_counts(rows))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not logits.grad.any()
