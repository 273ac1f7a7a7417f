from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from aerogel.errors import TrainingError
from aerogel.train.loss import TaskLoss, target_counts
from aerogel.train.pretraining.setup import MaskedLoss, evaluate_language


class Fixed(torch.nn.Module):
    """A model with constant logits; logits of tokens pass through its projection."""

    def __init__(self, **outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs
        self.projection = torch.nn.Identity()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.projection

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = {name: value[: len(input_ids)] for name, value in self.outputs.items()}
        return {n: self.projection(v) if v.dim() == 3 else v for n, v in outputs.items()}


def batch(labels: list[list[int]], **values: Any) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.zeros(len(labels), 3).long(), "labels": torch.tensor(labels), **values}


def test_metrics_are_means_over_masked_tokens_and_rows() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 0] = torch.tensor([0.0, math.log(5.0), 0.0, 0.0])
    order = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    batches = [
        # Class 1 has probability 5/8. Class 3 has 1/4, and the prediction is class 0.
        batch([[1, -100, -100], [-100, -100, 3]], next_sentence_label=torch.tensor([1, 1])),
        # Class 2 has probability 1/8.
        batch([[2, -100, -100]], next_sentence_label=torch.tensor([1])),
    ]
    found = evaluate_language(Fixed(prediction_logits=logits, seq_relationship_logits=order), batches)
    assert found == {
        "mlm_loss": pytest.approx((math.log(8 / 5) + math.log(4) + math.log(8)) / 3),
        "mlm_accuracy": pytest.approx(1 / 3),
        "nsp_accuracy": pytest.approx(2 / 3),
    }


def test_nsp_accuracy_is_omitted_without_pairs() -> None:
    found = evaluate_language(Fixed(logits=torch.zeros(2, 3, 4)), [batch([[1, -100, -100]])])
    assert found == {"mlm_loss": pytest.approx(math.log(4)), "mlm_accuracy": 0.0}


@pytest.mark.parametrize("name", ["prediction_logits", "seq_relationship_logits"])
def test_nan_output_is_an_error(name: str) -> None:
    outputs = {"prediction_logits": torch.zeros(1, 3, 4), "seq_relationship_logits": torch.zeros(1, 2)}
    outputs[name].fill_(float("nan"))
    with pytest.raises(TrainingError, match="in evaluation contain NaN or Inf"):
        evaluate_language(Fixed(**outputs), [batch([[1, 2, 3]], next_sentence_label=torch.tensor([1]))])


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", "PreTraining"),
        ("bert", "MaskedLM"),
        ("roberta", "MaskedLM"),
        ("electra", "MaskedLM"),
        ("distilbert", "MaskedLM"),
    ],
)
def test_masked_loss_equals_loss_of_all_tokens(
    tiny_checkpoint: Callable[..., Path], family: str, head: str
) -> None:
    loader = getattr(transformers, f"AutoModelFor{head}")
    model = loader.from_pretrained(tiny_checkpoint(family, head, 1.0)).eval()
    torch.manual_seed(0)
    given = {
        "input_ids": torch.randint(5, 30, (3, 9)),
        "attention_mask": torch.ones(3, 9).long(),
        "labels": torch.full((3, 9), -100),
    }
    given["labels"][0, 4], given["labels"][2, 1] = 7, 9
    if head == "PreTraining":
        given["next_sentence_label"] = torch.tensor([0, 1, 1])

    sizes: list[int] = []
    projection = model.get_output_embeddings()
    projection.register_forward_hook(lambda _, _hidden, out: sizes.append(out[..., 0].numel()))
    values, gradients = [], []
    for objective in (TaskLoss(), MaskedLoss(model)):
        model.zero_grad()
        loss = objective(model, given, target_counts(given))
        loss.backward()
        values.append(loss.item())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert sizes == [27, 2]
    assert values[1] == pytest.approx(values[0], rel=1e-6)
    for all_tokens, masked in zip(*gradients, strict=True):
        torch.testing.assert_close(masked, all_tokens, rtol=1e-4, atol=1e-6)
