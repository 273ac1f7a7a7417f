from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from aerogel.train.method import SparsityConfig, StepContext
from aerogel.train.methods.l0 import L0, METHOD

LEFT, RIGHT, BETA = -0.1, 1.1, 2 / 3


def attached(rows: int, cols: int, block: tuple[int, int] = (1, 1), lambda_: float = 5.0) -> L0:
    linear = nn.Linear(cols, rows, bias=False, dtype=torch.float64)
    return METHOD({"w": linear}, SparsityConfig(1.0, block, "global"), METHOD.Options(lambda_=lambda_))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_evaluation_gates_match_hand_computed_values() -> None:
    method = attached(1, 4)
    # sigmoid: 1/2, 1/12 (gate 0 exactly), 1/20 (below), 0.99 (gate 1)
    scores = [0.0, math.log(1 / 11), math.log(1 / 19), math.log(99.0)]
    method.masks["w"].scores.data.copy_(torch.tensor([scores]))
    gate = method.masks["w"].eval().gate()
    torch.testing.assert_close(gate, torch.tensor([[0.5, 0.0, 0.0, 1.0]]).double(), rtol=0, atol=1e-7)


def test_training_gates_and_gradient_match_formula() -> None:
    method = attached(2, 3, block=(1, 3))
    mask = method.masks["w"]
    mask.scores.data.copy_(torch.tensor([[-2.5], [-0.4]]))
    torch.manual_seed(0)
    u = torch.empty_like(mask.scores).uniform_(1e-4, 1 - 1e-4).numpy()
    s = mask.scores.detach().numpy()
    smooth = sigmoid((np.log(u) - np.log(1 - u) + s) / BETA)
    z = np.clip(smooth * (RIGHT - LEFT) + LEFT, 0, 1)
    assert ((z > 0) & (z < 1)).all(), "the test needs gates strictly between 0 and 1"
    torch.manual_seed(0)
    method.before_step(step())
    effective = method.matrices["w"].weight
    np.testing.assert_allclose(effective.detach(), method.weights["w"].detach().numpy() * z, rtol=1e-12)
    # L = sum of W': dL/dz of a block is the sum of its weights, and dz/dS = smooth (1 - smooth) (r - l) / b.
    effective.sum().backward()
    expected = method.weights["w"].detach().numpy().sum(1, keepdims=True) * smooth * (1 - smooth) * 1.2 / BETA
    np.testing.assert_allclose(mask.scores.grad, expected, rtol=1e-12)
    np.testing.assert_allclose(method.weights["w"].grad, np.broadcast_to(z, (2, 3)), rtol=1e-12)


def test_penalty_is_expected_density() -> None:
    """Compare with the fraction of 200,000 sampled gates that are not 0, without the bounds on u."""
    random = np.random.default_rng(0)
    for score in (-2.0, 0.0, 1.5):
        u = random.random(200_000)
        gates = np.clip(sigmoid((np.log(u) - np.log1p(-u) + score) / BETA) * 1.2 - 0.1, 0, 1)
        method = attached(2, 2, lambda_=5.0)
        method.masks["w"].scores.data.fill_(score)
        method.before_step(step())
        # Five standard deviations of a mean of 200,000 coin flips.
        assert float(method.penalty().detach()) / 5.0 == pytest.approx(
            (gates > 0).mean(), abs=5 * 0.5 / 200_000**0.5
        )


def step() -> StepContext:
    return StepContext(index=0, total=10, density=1.0, progress=0.0, lr=1e-3)


def test_penalty_gradient_matches_finite_differences() -> None:
    method = attached(2, 2)
    scores = method.masks["w"].scores
    scores.data.copy_(torch.tensor([[0.1, -1.0], [2.0, 0.0]]))
    method.before_step(step())
    method.penalty().backward()
    for index in np.ndindex(2, 2):
        around = []
        for delta in (1e-6, -1e-6):
            scores.data[index] += delta
            around.append(float(method.penalty().detach()))
            scores.data[index] -= delta
        assert float(scores.grad[index]) == pytest.approx((around[0] - around[1]) / 2e-6, rel=1e-6)


def test_lambda_is_constant_and_gates_start_nearly_open() -> None:
    method = attached(3, 3, lambda_=7.0)
    assert method.masks["w"].eval().gate()[0, 0].item() == pytest.approx(0.98, abs=1e-3)
    assert method.score_lr == 0.1
    for progress in (0.0, 0.5, 1.0):
        method.before_step(StepContext(0, 10, 1.0, progress, 1e-3))
        assert method.log_values()["lambda"] == 7.0


def test_fold_multiplies_weights_by_gates() -> None:
    method = attached(2, 4, block=(2, 2))
    linear, weight = method.matrices["w"], method.weights["w"].detach().clone()
    method.masks["w"].scores.data.copy_(torch.tensor([[0.0, -3.0]]))
    evaluated = linear.eval().weight.detach().clone()
    linear.train()
    mask = method.fold()["w"]
    assert mask.tolist() == [[True, True, False, False]] * 2
    assert torch.equal(linear.weight, evaluated)
    torch.testing.assert_close(linear.weight[:, :2], weight[:, :2] * 0.5)
    assert linear.weight[:, 2:].tolist() == [[0.0, 0.0]] * 2


def test_logged_density_is_that_of_current_gates() -> None:
    method = attached(2, 4, block=(1, 2))
    assert method.log_values()["achieved"] == 1.0
    method.masks["w"].scores.data.copy_(torch.tensor([[0.0, -3.0], [-3.0, -3.0]]))
    assert method.log_values()["achieved"] == 0.25
