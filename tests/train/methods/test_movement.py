from __future__ import annotations

import pytest
import torch
from torch import nn

from aerogel.errors import UsageError
from aerogel.train.method import SparsityConfig
from aerogel.train.methods.movement import METHOD, Movement, MovementOptions


def attached(
    weight: torch.Tensor,
    density: float,
    block: tuple[int, int] = (1, 1),
    options: MovementOptions | None = None,
) -> tuple[nn.Linear, Movement]:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    linear.weight.data.copy_(weight)
    return linear, METHOD({"w": linear}, SparsityConfig(density, block), options)


def test_gradients_match_hand_computed_values() -> None:
    # y = W' x with x = (1, 2) and dL/dy = (1, 10), so dL/dW' = [[1, 2], [10, 20]].
    weight = torch.tensor([[3.0, -1.0], [0.5, 2.0]], dtype=torch.float64)
    linear, method = attached(weight, 0.5)
    method.masks["w"].mask.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    (linear(torch.tensor([1.0, 2.0], dtype=torch.float64)) * torch.tensor([1.0, 10.0])).sum().backward()
    # dL/dS = dL/dW' * W for all weights; dL/dW = dL/dW' for kept weights and 0 for the others.
    assert method.masks["w"].scores.grad.tolist() == [[3.0, -2.0], [5.0, 40.0]]
    assert method.weights["w"].grad.tolist() == [[1.0, 0.0], [0.0, 20.0]]


def test_block_score_gradient_is_sum_over_block() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    linear, method = attached(weight, 0.5, block=(2, 3))
    linear(x).tanh().sum().backward()

    effective = weight.clone().requires_grad_()
    (x @ effective.T).tanh().sum().backward()
    per_weight = effective.grad * weight
    expected = torch.stack([per_weight[r : r + 2, c : c + 3].sum() for r in (0, 2) for c in (0, 3)]).reshape(
        2, 2
    )
    torch.testing.assert_close(method.masks["w"].scores.grad, expected, rtol=1e-14, atol=0)


def test_growing_weights_are_kept_and_pruned_weights_can_return() -> None:
    # L = sum (W - optimum)^2 / 2: the first two weights grow, the last two shrink, and faster.
    optimum = torch.tensor([[0.9, -0.9, 0.0, 0.0]])
    linear, method = attached(torch.tensor([[0.2, -0.2, 1.0, -1.0]]), 0.5)
    optimizer = torch.optim.SGD(
        [{"params": [method.weights["w"]], "lr": 0.05}, {"params": method.score_parameters(), "lr": 0.5}]
    )
    method.masks["w"].mask.copy_(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    for _ in range(20):
        (linear.weight - optimum).square().sum().div(2).backward()
        optimizer.step()
        optimizer.zero_grad()
        method.update(0.5)
    assert method.fold()["w"].tolist() == [[True, True, False, False]]


def test_pruned_weights_keep_their_values_during_training() -> None:
    linear, method = attached(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 0.25)
    method.masks["w"].scores.data.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    method.update(0.25)
    assert linear.weight.tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert method.weights["w"].tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_scores_start_at_zero_with_one_per_block() -> None:
    _, method = attached(torch.ones(4, 6), 0.5, block=(4, 1))
    (scores,) = method.score_parameters()
    assert scores.shape == (1, 6)
    assert not scores.any()


def test_scores_can_start_at_magnitudes() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0, 1.0], [-1.0, 0.0, 5.0, 3.0]])
    # The means of the blocks are 1 and 3, the mean of all weights is 2.
    _, method = attached(weight, 0.5, (2, 2), MovementOptions(start=0.5))
    assert method.masks["w"].scores.tolist() == [[0.25, 0.75]]
    _, method = attached(weight, 0.5, options=MovementOptions(start=3.0))
    torch.testing.assert_close(method.masks["w"].scores.detach(), 1.5 * weight.abs())
    _, method = attached(torch.zeros(2, 2), 0.5, options=MovementOptions(start=3.0))
    assert not method.masks["w"].scores.any()


@pytest.mark.parametrize("start", [-1.0, float("nan"), float("inf")])
def test_invalid_start_is_rejected(start: float) -> None:
    with pytest.raises(UsageError, match="option start="):
        MovementOptions(start=start)
