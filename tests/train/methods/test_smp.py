from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from aerogel.hf.encoder import prunable
from aerogel.train.method import SparsityConfig, StepContext
from aerogel.train.methods.smp import METHOD, block_budgets


@pytest.mark.parametrize(
    ("weights", "sizes", "density", "counts"),
    [
        ([1.0, 1.0], [10, 10], 0.5, [5, 5]),
        ([3.0, 1.0], [10, 10], 0.2, [3, 1]),
        # 16 in proportion 3 : 1 is 12 and 4; the first has only 10, so the second gets 6.
        ([3.0, 1.0], [10, 10], 0.8, [10, 6]),
        ([8.0, 2.0, 1.0], [10, 10, 10], 0.7, [10, 7, 4]),  # 11 remain, 2 : 1 is 7.33 and 3.67
        ([1.0, 1.0, 1.0], [10, 10, 10], 1 / 3, [4, 3, 3]),  # 10 / 3 each; the first gets the remainder
        ([1.0, 1.0], [10, 10], 1.0, [10, 10]),
        ([1.0], [4], 0.01, [1]),
    ],
)
def test_budgets_match_hand_computed_values(
    weights: list[float], sizes: list[int], density: float, counts: list[int]
) -> None:
    assert block_budgets(weights, sizes, density) == counts


def test_budgets_depend_on_scores_of_same_type() -> None:
    names = ["layer.0.query.weight", "layer.1.query.weight", "layer.0.key.weight", "layer.1.key.weight"]
    method = METHOD({name: nn.Linear(10, 10) for name in names}, SparsityConfig(0.2))
    for name, value in zip(names, (0.75, 0.25, 0.5, 0.5), strict=True):
        noise = torch.linspace(0, 1e-3, 100).reshape(10, 10)
        method.masks[name].scores.data.copy_(torch.tensor(value).logit() + noise)
    method.update(0.2)
    # 3/4 of the 40 kept query weights are in the first layer.
    assert [int(method.masks[name].mask.sum()) for name in names] == [30, 10, 20, 20]
    assert method.masks[names[1]].mask[-1].all()


def test_penalty_rises_with_pruned_fraction() -> None:
    method = METHOD({"layer.0.w": nn.Linear(4, 4), "layer.1.w": nn.Linear(2, 2)}, SparsityConfig(0.1))
    method.masks["layer.1.w"].scores.data.fill_(torch.tensor(0.8).logit())
    for progress in (0.0, 0.5, 1.0):
        method.before_step(StepContext(3, 9, 1.0 - 0.9 * progress, progress, 1e-3))
        assert float(method.penalty().detach()) == pytest.approx(400 * progress * (0.5 + 0.8) / 2)


@pytest.mark.parametrize("head", [True, False])
def test_only_scores_head_and_pooler_are_trained(head: bool) -> None:
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
        )
    )
    method = METHOD(prunable(model), SparsityConfig(0.5), METHOD.Options(head=head))
    method.prepare(model)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    scores = {name for name in learning if name.endswith(".scores")}
    assert len(scores) == 12
    rest = {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}
    assert learning - scores == (rest if head else set())

    before = {name: weight.detach().clone() for name, weight in method.weights.items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=method.score_lr)
    method.before_step(StepContext(0, 9, 0.5, 0.5, 1e-3))
    out = model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([1]))
    (out.loss + method.penalty()).backward()
    optimizer.step()
    assert all(torch.equal(method.weights[name], weight) for name, weight in before.items())
    assert all(mask.scores.any() for mask in method.masks.values())
