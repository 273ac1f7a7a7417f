from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aerogel.errors import UsageError
from aerogel.train.method import SparsityConfig, StepContext
from aerogel.train.methods.rpp import METHOD, Options, ReweightedProximal
from aerogel.train.schedule import Cubic

BETAS, ADAM_EPS, LR = (0.9, 0.999), 1e-8, 0.01


def attached(
    weight: torch.Tensor, options: Options, density: float = 1.0, block: tuple[int, int] = (1, 1)
) -> ReweightedProximal:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    linear.weight.data.copy_(weight)
    return METHOD({"w": linear}, SparsityConfig(density, block, "global"), options)


def step_of(index: int, total: int = 8, begin: int = 0, finish: int = 8, density: float = 1.0) -> StepContext:
    return StepContext(index, total, density, progress=0.5, lr=LR, begin=begin, finish=finish)


def run(method: ReweightedProximal, goal: torch.Tensor, steps: list[StepContext]) -> list[np.ndarray]:
    """Minimise |W - goal|^2 / 2; the weights after each step."""
    optimizer = torch.optim.AdamW([method.weights["w"]], lr=LR, betas=BETAS, eps=ADAM_EPS, weight_decay=0.0)
    seen = []
    for step in steps:
        method.before_step(step)
        (method.matrices["w"].weight - goal).square().sum().div(2).backward()
        optimizer.step()
        method.after_step(step, optimizer)
        optimizer.zero_grad()
        seen.append(method.weights["w"].detach().numpy().copy())
    return seen


def test_the_proximal_step_by_hand() -> None:
    method = attached(torch.tensor([[0.5, -0.5, 0.03, -0.03, 0.0]]), Options(gamma=4.0))
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)
    method.after_step(step_of(0), optimizer)
    # t = 0.01 * 4 * 1 = 0.04
    torch.testing.assert_close(method.weights["w"], torch.tensor([[0.46, -0.46, 0.0, 0.0, 0.0]]))
    assert not torch.signbit(method.weights["w"][0, 2:]).any()


def test_reweighting_by_hand() -> None:
    method = attached(torch.tensor([[0.54, -0.14, 0.04]]), Options(gamma=4.0, eps=0.1, reweightings=1))
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)
    assert method.after_step(step_of(0, total=2), optimizer)["reweighting"] == 1.0
    # w = 0.5, -0.1, 0 after t = 0.04; alpha = 1 / (|w| + 0.1)
    torch.testing.assert_close(method.masks["w"].alpha, torch.tensor([[1 / 0.6, 5.0, 10.0]]))
    assert method.after_step(step_of(1, total=2), optimizer) == {}
    torch.testing.assert_close(method.weights["w"], torch.tensor([[0.5 - 0.04 / 0.6, 0.0, 0.0]]))


def test_a_reweighting_waits_for_the_next_step_where_one_was_left_out() -> None:
    method = attached(torch.tensor([[0.54, -0.14]]), Options(gamma=4.0, reweightings=1))
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)
    # The phase ends with step 4, which half precision left out.
    noted = {index: method.after_step(step_of(index, total=10), optimizer) for index in (3, 5, 6)}
    assert [index for index, values in noted.items() if "reweighting" in values] == [5]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("block", [(1, 1), (2, 3)])
def test_whole_runs_against_an_independent_implementation(adaptive: bool, block: tuple[int, int]) -> None:
    random = np.random.default_rng(5)
    start, goal = random.standard_normal((2, 4, 6)) * 0.4
    # Thresholds of the adaptive metric are larger: gradients are about 0.5, so 1 / sqrt(v) is about 2.
    gamma, eps, total, begin = (0.3 if adaptive else 0.6), 1e-2, 12, 2
    if block != (1, 1):
        gamma *= 7  # norms are larger than their entries
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
        gradient = w - goal
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

    options = Options(gamma=gamma, eps=eps, reweightings=2, adaptive=adaptive)
    method = attached(torch.from_numpy(start), options, block=block)
    steps = [step_of(t, total, begin, finish=9) for t in range(total)]
    for found, wanted in zip(run(method, torch.from_numpy(goal), steps), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-16)
        assert ((found == 0) == (wanted == 0)).all()
    # The case is one in which something is pruned and something is kept.
    assert 0 < np.count_nonzero(expected[-1]) < 24


def test_the_penalty_enters_neither_gradient_nor_moments() -> None:
    weight = torch.randn(3, 4, dtype=torch.float64)
    one, other = (attached(weight, Options(gamma=gamma)) for gamma in (0.0, 5.0))
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


def test_finetuning_keeps_the_zeros_and_shrinks_no_more() -> None:
    weight = torch.tensor([[0.9, -0.8, 0.01, -0.02]], dtype=torch.float64)
    method = attached(weight, Options(gamma=2.0, finetune=True))
    goal = torch.tensor([[1.0, -1.0, 1.0, 1.0]], dtype=torch.float64)
    seen = run(method, goal, [step_of(t, total=60, finish=4) for t in range(60)])
    assert np.count_nonzero(seen[3]) == 2
    linear = method.matrices["w"]
    mask = method.bake()["w"]
    assert mask.tolist() == [[True, True, False, False]]
    assert linear.weight[0, 2:].tolist() == [0.0, 0.0]
    assert (linear.weight[0, :2].abs() > 0.95).all()


def test_the_mask_is_where_weights_are_not_zero() -> None:
    method = attached(torch.tensor([[1.0, 0.0, 1e-30, -2.0]]), Options(gamma=1.0))
    assert method.bake()["w"].tolist() == [[True, False, True, True]]


def test_gamma_is_what_leaves_the_scheduled_density() -> None:
    weight = torch.linspace(0.01, 1.0, 100).reshape(10, 10)
    method = attached(weight, Options(), density=0.25)
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)

    def after(index: int, density: float) -> dict[str, float]:
        method.after_step(step_of(index, 400, finish=200, density=density), optimizer)
        return method.log_values()

    # All stay, so nothing is shrunk.
    assert after(0, 1.0) == {"gamma": 0.0, "achieved": 1.0}
    assert torch.equal(method.weights["w"].detach(), weight)
    # Of 0.01, 0.02 ... 1 the 60th goes and the 61st stays; alpha is 1 / w already.
    product = 0.60 * 0.61
    assert after(1, 0.4) == {"gamma": pytest.approx(product / LR, rel=1e-5), "achieved": 0.4}
    left = method.weights["w"].detach().clone()
    torch.testing.assert_close(left.max(), torch.tensor(1 - product))
    # Nothing more has to go, so nothing is shrunk.
    assert after(2, 0.4) == {"gamma": 0.0, "achieved": 0.4}
    assert torch.equal(method.weights["w"], left)
    assert after(3, 0.3)["achieved"] == 0.3


@pytest.mark.parametrize(("block", "left"), [((1, 1), 0.9), ((4, 1), 0.6)])
def test_what_stays_is_not_shrunk_to_nothing(block: tuple[int, int], left: float) -> None:
    """Norms of blocks of noise lie close together; under alpha = 1 all would lose nearly as much as those that go."""
    torch.manual_seed(0)
    weight = torch.randn(128, 128) * 0.04
    method = attached(weight, Options(), density=0.1, block=block)
    optimizer = torch.optim.SGD(method.weights.values(), lr=LR)
    schedule = Cubic(1.0, 0.1, 310, 1, 1.0, 0.0)
    # A tenth of the descent.
    for index in range(1, 32):
        method.after_step(step_of(index, 310, 1, 310, schedule.density(index)), optimizer)
    found = method.weights["w"].detach()
    kept = found != 0
    assert method.log_values()["achieved"] == pytest.approx(schedule.density(31), abs=0.01)
    assert float(found[kept].norm() / weight[kept].norm()) > left


@pytest.mark.parametrize(
    ("options", "density", "message"),
    [
        (
            Options(gamma=0.1),
            0.5,
            r"--option gamma=0.1 decides the density, so --density 0.5 cannot be asked",
        ),
        (Options(), 1.0, r"the density follows from a penalty; give --density below 1, or --option gamma=X"),
    ],
)
def test_gamma_or_a_density_is_needed_and_not_both(options: Options, density: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attached(torch.ones(2, 2), options, density)


@pytest.mark.parametrize("values", [{"gamma": -1.0}, {"eps": 0.0}, {"reweightings": -1}])
def test_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(UsageError, match=f"--option {name}="):
        Options(**values)
