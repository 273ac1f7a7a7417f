from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from aerogel.errors import TrainingError
from aerogel.train.loss import TaskLoss, counted
from aerogel.train.pretraining.setup import MaskedLoss, measure_language


class Fixed(torch.nn.Module):
    """Gives the logits it was made with, whatever the input; tokens' logits pass its projection."""

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


def test_means_are_over_all_masked_tokens_and_all_rows() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 0] = torch.tensor([0.0, math.log(5.0), 0.0, 0.0])
    order = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    batches = [
        # Class 1 with probability 5/8; class 3 with 1/4, and class 0 would be guessed.
        batch([[1, -100, -100], [-100, -100, 3]], next_sentence_label=torch.tensor([1, 1])),
        # Class 2 with probability 1/8.
        batch([[2, -100, -100]], next_sentence_label=torch.tensor([1])),
    ]
    found = measure_language(Fixed(prediction_logits=logits, seq_relationship_logits=order), batches)
    assert found == {
        "mlm_loss": pytest.approx((math.log(8 / 5) + math.log(4) + math.log(8)) / 3),
        "mlm_accuracy": pytest.approx(1 / 3),
        "nsp_accuracy": pytest.approx(2 / 3),
    }


def test_without_pairs_there_is_no_accuracy_of_them() -> None:
    found = measure_language(Fixed(logits=torch.zeros(2, 3, 4)), [batch([[1, -100, -100]])])
    assert found == {"mlm_loss": pytest.approx(math.log(4)), "mlm_accuracy": 0.0}


@pytest.mark.parametrize("name", ["prediction_logits", "seq_relationship_logits"])
def test_an_output_that_is_not_finite_is_an_error(name: str) -> None:
    outputs = {"prediction_logits": torch.zeros(1, 3, 4), "seq_relationship_logits": torch.zeros(1, 2)}
    outputs[name].fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite in evaluation"):
        measure_language(Fixed(**outputs), [batch([[1, 2, 3]], next_sentence_label=torch.tensor([1]))])


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
def test_the_masked_loss_is_that_of_all_tokens(
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
        loss = objective(model, given, counted(given))
        loss.backward()
        values.append(loss.item())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert sizes == [27, 2]
    assert values[1] == pytest.approx(values[0], rel=1e-6)
    for all_tokens, masked in zip(*gradients, strict=True):
        torch.testing.assert_close(masked, all_tokens, rtol=1e-4, atol=1e-6)
