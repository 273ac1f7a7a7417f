from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aerogel.errors import UsageError
from aerogel.train.method import SparsityConfig, StepContext
from aerogel.train.methods.rpp import METHOD, ReweightedProximal, RppOptions
from aerogel.train.schedule import Cubic

BETAS, ADAM_EPS, LR = (0.9, 0.999), 1e-8, 0.01


def attached(
    weight: torch.Tensor, options: RppOptions, density: float = 1.0, block: tuple[int, int] = (1, 1)
) -> ReweightedProximal:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    linear.weight.data.copy_(weight)
    return METHOD({"w": linear}, SparsityConfig(density, block, "global"), options)


def step_of(index: int, total: int = 8, begin: int = 0, finish: int = 8, density: float = 1.0) -> StepContext:
    return StepContext(index, total, density, progress=0.5, lr=LR, begin=begin, finish=finish)


def run(method: ReweightedProximal, optimum: torch.Tensor, steps: list[StepContext]) -> list[np.ndarray]:
    """Minimize |W - optimum|^2 / 2; returns the weights after each step."""
    optimizer = torch.optim.AdamW([method.weights["w"]], lr=LR, betas=BETAS, eps=ADAM_EPS, weight_decay=0.0)
    history = []
    for step in steps:
        method.before_step(step)
        (method.matrices["w"].weight - optimum).square().sum().div(2).backward()
        optimizer.step()
        method.after_step(step, optimizer)
        optimizer.zero_grad()
        history.append(method.weights["w"].detach().numpy().copy())
    return history


def test_proximal_step_matches_hand_computed_values() -> None:
    method = attached(torch.tensor([[0.5, -0.5, 0.03, -0.03, 0.0]]), RppOptions(gamma=4.0))
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)
    method.after_step(step_of(0), optimizer)
    # t = 0.01 * 4 * 1 = 0.04
    torch.testing.assert_close(method.weights["w"], torch.tensor([[0.46, -0.46, 0.0, 0.0, 0.0]]))
    assert not torch.signbit(method.weights["w"][0, 2:]).any()


def test_reweighting_matches_hand_computed_values() -> None:
    method = attached(torch.tensor([[0.54, -0.14, 0.04]]), RppOptions(gamma=4.0, eps=0.1, reweightings=1))
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)
    assert method.after_step(step_of(0, total=2), optimizer)["reweighting"] == 1.0
    # w = 0.5, -0.1, 0 after t = 0.04; alpha = 1 / (|w| + 0.1)
    torch.testing.assert_close(method.masks["w"].alpha, torch.tensor([[1 / 0.6, 5.0, 10.0]]))
    assert method.after_step(step_of(1, total=2), optimizer) == {}
    torch.testing.assert_close(method.weights["w"], torch.tensor([[0.5 - 0.04 / 0.6, 0.0, 0.0]]))


def test_reweighting_follows_a_skipped_step() -> None:
    method = attached(torch.tensor([[0.54, -0.14]]), RppOptions(gamma=4.0, reweightings=1))
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)
    # The phase ends with step 4, which fp16 skipped.
    logged = {index: method.after_step(step_of(index, total=10), optimizer) for index in (3, 5, 6)}
    assert [index for index, values in logged.items() if "reweighting" in values] == [5]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("block", [(1, 1), (2, 3)])
def test_runs_match_numpy_implementation(adaptive: bool, block: tuple[int, int]) -> None:
    random = np.random.default_rng(5)
    start, optimum = random.standard_normal((2, 4, 6)) * 0.4
    # Adaptive thresholds are larger: gradients are about 0.5, so 1 / sqrt(v) is about 2.
    gamma, eps, total, begin = (0.3 if adaptive else 0.6), 1e-2, 12, 2
    if block != (1, 1):
        gamma *= 7  # block norms are larger than single weights
    rows, cols = block

    def per_block(values: np.ndarray) -> np.ndarray:
        return (
            values.reshape(4 // rows, rows, 6 // cols, cols)
            .transpose(0, 2, 1, 3)
            .reshape(4 // rows, 6 // cols, -1)
        )

    def whole(values: np.ndarray) -> np.ndarray:
        return np.kron(values, np.ones(block))

    w, m, v, alpha = start.copy(), np.zeros((4, 6)), np.zeros((4, 6)), np.ones((4 // rows, 6 // cols))
    expected = []
    for t in range(total):
        gradient = w - optimum
        m = BETAS[0] * m + (1 - BETAS[0]) * gradient
        v = BETAS[1] * v + (1 - BETAS[1]) * gradient**2
        m_hat, v_hat = m / (1 - BETAS[0] ** (t + 1)), v / (1 - BETAS[1] ** (t + 1))
        w = w - LR * m_hat / (np.sqrt(v_hat) + ADAM_EPS)
        if t >= begin:
            threshold = LR * gamma * alpha
            if adaptive:
                threshold = threshold / (per_block(np.sqrt(v_hat)).mean(-1) + ADAM_EPS)
            if block == (1, 1):
                w = np.sign(w) * np.maximum(np.abs(w) - threshold, 0)
            else:
                norms = np.sqrt((per_block(w) ** 2).sum(-1))
                w = w * whole(np.maximum(1 - threshold / norms.clip(1e-300), 0))
        if t + 1 in (begin + 3, begin + 6):  # thirds of the 10 steps: phases of 3, 3 and 4
            alpha = 1 / (np.sqrt((per_block(w) ** 2).sum(-1)) + eps)
        expected.append(w)

    options = RppOptions(gamma=gamma, eps=eps, reweightings=2, adaptive=adaptive)
    method = attached(torch.from_numpy(start), options, block=block)
    steps = [step_of(t, total, begin, finish=9) for t in range(total)]
    for actual, wanted in zip(run(method, torch.from_numpy(optimum), steps), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-10, atol=1e-16)
        assert ((actual == 0) == (wanted == 0)).all()
    # The test is meaningful only if some weights are pruned and some kept.
    assert 0 < np.count_nonzero(expected[-1]) < 24


def test_penalty_affects_neither_gradient_nor_moments() -> None:
    weight = torch.randn(3, 4, dtype=torch.float64)
    one, other = (attached(weight, RppOptions(gamma=gamma)) for gamma in (0.0, 5.0))
    moments = []
    for method in (one, other):
        assert method.penalty() is None
        optimizer = torch.optim.AdamW([method.weights["w"]], lr=LR)
        method.matrices["w"].weight.sum().backward()
        optimizer.step()
        method.after_step(step_of(0), optimizer)
        moments.append(optimizer.state[method.weights["w"]])
    assert torch.equal(moments[0]["exp_avg"], moments[1]["exp_avg"])
    assert torch.equal(moments[0]["exp_avg_sq"], moments[1]["exp_avg_sq"])


def test_finetune_keeps_zeros_and_stops_shrinking() -> None:
    weight = torch.tensor([[0.9, -0.8, 0.01, -0.02]], dtype=torch.float64)
    method = attached(weight, RppOptions(gamma=2.0, finetune=True))
    optimum = torch.tensor([[1.0, -1.0, 1.0, 1.0]], dtype=torch.float64)
    history = run(method, optimum, [step_of(t, total=60, finish=4) for t in range(60)])
    assert np.count_nonzero(history[3]) == 2
    linear = method.matrices["w"]
    mask = method.fold()["w"]
    assert mask.tolist() == [[True, True, False, False]]
    assert linear.weight[0, 2:].tolist() == [0.0, 0.0]
    assert (linear.weight[0, :2].abs() > 0.95).all()


def test_mask_selects_nonzero_weights() -> None:
    method = attached(torch.tensor([[1.0, 0.0, 1e-30, -2.0]]), RppOptions(gamma=1.0))
    assert method.fold()["w"].tolist() == [[True, False, True, True]]


def test_gamma_yields_scheduled_density() -> None:
    weight = torch.linspace(0.01, 1.0, 100).reshape(10, 10)
    method = attached(weight, RppOptions(), density=0.25)
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)

    def after(index: int, density: float) -> dict[str, float]:
        method.after_step(step_of(index, 400, finish=200, density=density), optimizer)
        return method.log_values()

    # At density 1 no weight is shrunk.
    assert after(0, 1.0) == {"gamma": 0.0, "achieved": 1.0}
    assert torch.equal(method.weights["w"].detach(), weight)
    # Of 0.01, 0.02 ... 1 the 60th is pruned and the 61st kept; alpha is already 1 / w.
    product = 0.60 * 0.61
    assert after(1, 0.4) == {"gamma": pytest.approx(product / LR, rel=1e-5), "achieved": 0.4}
    remaining = method.weights["w"].detach().clone()
    torch.testing.assert_close(remaining.max(), torch.tensor(1 - product))
    # The density does not change, so no weight is shrunk.
    assert after(2, 0.4) == {"gamma": 0.0, "achieved": 0.4}
    assert torch.equal(method.weights["w"], remaining)
    assert after(3, 0.3)["achieved"] == 0.3


@pytest.mark.parametrize(("block", "remaining"), [((1, 1), 0.9), ((4, 1), 0.6)])
def test_kept_weights_are_not_shrunk_to_zero(block: tuple[int, int], remaining: float) -> None:
    """Norms of random blocks are close; with alpha = 1, kept blocks would shrink nearly as much as pruned ones."""
    torch.manual_seed(0)
    weight = torch.randn(128, 128) * 0.04
    method = attached(weight, RppOptions(), density=0.1, block=block)
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)
    schedule = Cubic(1.0, 0.1, 310, 1, 1.0, 0.0)
    # A tenth of the descent.
    for index in range(1, 32):
        method.after_step(step_of(index, 310, 1, 310, schedule.density(index)), optimizer)
    found = method.weights["w"].detach()
    kept = found != 0
    assert method.log_values()["achieved"] == pytest.approx(schedule.density(31), abs=0.01)
    assert float(found[kept].norm() / weight[kept].norm()) > remaining


@pytest.mark.parametrize(
    ("options", "density", "message"),
    [
        (
            RppOptions(gamma=0.1),
            0.5,
            r"density 0.5 and option gamma=0.1 exclude each other",
        ),
        (RppOptions(), 1.0, r"needs a density below 1 or option gamma=X; set one of them"),
    ],
)
def test_exactly_one_of_gamma_and_density_is_required(
    options: RppOptions, density: float, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        attached(torch.ones(2, 2), options, density)


@pytest.mark.parametrize("values", [{"gamma": -1.0}, {"eps": 0.0}, {"reweightings": -1}])
def test_options_out_of_range_are_rejected(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(UsageError, match=f"option {name}="):
        RppOptions(**values)
