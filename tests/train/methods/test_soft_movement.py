from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from aerogel.errors import UsageError
from aerogel.train.method import SparsityConfig, StepContext
from aerogel.train.methods.soft_movement import METHOD, SoftMovement


def attached(
    shapes: dict[str, tuple[int, int]],
    lambda_: float | None = 60.0,
    block: tuple[int, int] = (1, 1),
    density: float = 1.0,
) -> SoftMovement:
    linears = {
        name: nn.Linear(cols, rows, bias=False, dtype=torch.float64) for name, (rows, cols) in shapes.items()
    }
    return METHOD(linears, SparsityConfig(density, block, "global"), METHOD.Options(lambda_=lambda_))


def at(progress: float) -> StepContext:
    return StepContext(
        index=5, total=10, density=0.5, progress=progress, lr=1e-3, score_lr=1e-2, begin=1, finish=8
    )


def test_threshold_rises_to_a_tenth() -> None:
    method = attached({"w": (1, 4)})
    # sigmoid: 0.04, 0.06, 0.12, 0.5
    method.masks["w"].scores.data.copy_(torch.tensor([[0.04, 0.06, 0.12, 0.5]]).logit())
    for progress, kept in ((0.0, 4), (0.3, 4), (0.5, 3), (1.0, 2)):
        method.before_step(at(progress))
        assert int(method.masks["w"].mask.sum()) == kept
    assert method.fold()["w"].tolist() == [[False, False, True, True]]


def test_scores_at_threshold_are_pruned() -> None:
    method = attached({"w": (1, 200)})
    method.masks["w"].scores.data.fill_(math.log(0.1 / 0.9))
    method.apply_threshold(0.1)
    assert int(method.masks["w"].mask.sum()) == 1  # the minimum


@pytest.mark.parametrize(("block", "kept"), [((1, 1), 8), ((2, 2), 8)])
def test_at_least_half_a_percent_of_each_matrix_is_kept(block: tuple[int, int], kept: int) -> None:
    # 1600 weights or 400 blocks of four: 8 weights, or 2 blocks with 8 weights.
    method = attached({"w": (40, 40), "other": (2, 2)}, block=block)
    scores = method.masks["w"].scores
    scores.data.copy_(torch.linspace(-9, -5, scores.numel()).reshape(scores.shape))
    method.before_step(at(1.0))
    mask = method.masks["w"].mask
    assert int(mask.sum()) == kept
    # The highest scores are in the last row of blocks.
    assert int(mask[-block[0] :].sum()) == kept


def test_penalty_and_gradient_match_hand_computed_values() -> None:
    method = attached({"a": (1, 2), "b": (2, 2)}, lambda_=60.0)
    method.masks["a"].scores.data.copy_(torch.tensor([[0.0, math.log(3.0)]]))
    method.before_step(at(0.5))
    # lambda_t = 60 * 0.05 / 0.1 = 30; means of sigmoid: (1/2 + 3/4) / 2 = 5/8 and 1/2; their mean is 9/16.
    penalty = method.penalty()
    assert float(penalty.detach()) == pytest.approx(30 * 9 / 16)
    penalty.backward()
    # sigmoid' = 1/4 and 3/16, over 2 entries and 2 matrices.
    torch.testing.assert_close(method.masks["a"].scores.grad, torch.tensor([[30 / 16, 30 * 3 / 64]]).double())
    torch.testing.assert_close(method.masks["b"].scores.grad, torch.full((2, 2), 30 / 32).double())
    assert method.weights["a"].grad is None


def test_score_gradient_equals_that_of_hard_movement() -> None:
    method = attached({"w": (2, 2)})
    linear = method.matrices["w"]
    method.weights["w"].data.copy_(torch.tensor([[3.0, -1.0], [0.5, 2.0]]))
    method.masks["w"].scores.data.copy_(torch.tensor([[1.0, -5.0], [-5.0, 1.0]]))
    method.before_step(at(1.0))
    # dL/dW' = [[1, 2], [10, 20]]
    (linear(torch.tensor([1.0, 2.0]).double()) * torch.tensor([1.0, 10.0])).sum().backward()
    assert method.masks["w"].scores.grad.tolist() == [[3.0, -2.0], [5.0, 40.0]]
    assert method.weights["w"].grad.tolist() == [[1.0, 0.0], [0.0, 20.0]]


def test_log_values_contain_lambda_and_density() -> None:
    method = attached({"w": (1, 4)}, lambda_=8.0)
    method.before_step(at(0.25))
    assert method.log_values() == {"lambda": 2.0, "achieved": 1.0}


@pytest.mark.parametrize(
    ("given", "density", "message"),
    [
        (100.0, 0.1, r"density 0.1 and option lambda=100 exclude each other"),
        (None, 1.0, r"needs a density below 1 or option lambda=X"),
        (-1.0, 1.0, r"option lambda=-1: must be 0 or more"),
    ],
)
def test_invalid_settings_are_rejected(given: float | None, density: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attached({"w": (2, 2)}, given, density=density)
