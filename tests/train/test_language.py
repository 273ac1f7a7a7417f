from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from aerogel.errors import TrainingError
from aerogel.train.language import measure_language


class Fixed(torch.nn.Module):
    """Gives the logits it was made with, whatever the input."""

    def __init__(self, **outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: value[: len(input_ids)] for name, value in self.outputs.items()}


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
