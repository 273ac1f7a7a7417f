from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from aerogel.errors import UsageError
from aerogel.train.density_controller import DensityController, boundary
from aerogel.train.method import Method, SparsityConfig, StepContext
from aerogel.train.methods import METHODS
from aerogel.train.schedule import Cubic, linear_rate

CONTROLLED = [name for name in METHODS.names() if METHODS.get(name).density_is_outcome]


def test_boundary_is_between_kept_and_pruned_values() -> None:
    values = [torch.tensor([[5.0, 1.0]]), torch.tensor([3.0, 2.0, 9.0, 4.0])]
    assert boundary(values, 0.5) == 3.5
    assert boundary(values, 1 / 6) == 7.0
    assert boundary(values, 1.0) == 1.0
    assert boundary([torch.tensor([0.0, 0.0, 0.0, 1.0])], 0.5) == 0.0


def test_update_matches_hand_computed_value() -> None:
    """200 steps of descent with an update every second step; eta = 0.1 (1 - t / 200)."""
    controller = DensityController(density=0.5, threshold=-2.0, strength=8.0)
    scores = torch.tensor([1.0, 0.0, -1.0, 2.0])

    def step(index: int) -> StepContext:
        rate = 0.1 * (1 - index / 200)
        return StepContext(index, 200, 0.5, 0.0, 1e-3, score_lr=rate, begin=0, finish=200)

    assert controller.after_step(step(0), [scores]) == {}
    assert controller.after_step(step(1), [scores - 0.02]) == {}
    changed = controller.after_step(step(2), [scores - 0.04])
    speed = -0.04 / (0.1 * (1 - 1 / 200) + 0.1 * (1 - 2 / 200))
    needed = (-2.0 - 0.46) / (0.1 * (1 - 2 / 200) * (198 - 198 / 2))
    assert changed["quantile"] == pytest.approx(0.46)
    assert changed["lambda"] == controller.strength == pytest.approx(8.0 * math.exp(speed - needed))


def test_unreachable_density_error_gives_sufficient_rate() -> None:
    controller = DensityController(density=0.1, threshold=-2.2, strength=1.0)
    step = StepContext(0, 100, 1.0, 0.0, 1e-3, score_lr=0.01, begin=0, finish=80)
    # Rates sum to 0.01 (80 - 80^2 / 200) = 0.48.
    with pytest.raises(
        UsageError, match=r"must move by 2.2 and can move by at most 0.48 .* raise score_lr 4.59 times"
    ):
        controller.after_step(step, [torch.zeros(10)])


def check_method(
    name: str, density: float, score_lr: float, block: tuple[int, int] = (1, 1), **options: float
) -> None:
    """Call `check` for a run of 100 steps with 10 steps of warm-up and the descent from 10 to 80."""
    method_class = METHODS.get(name)
    matrices = {f"layer.{n}.w": nn.Linear(40, 20 * (n + 1)) for n in range(2)}
    scope = "global" if method_class.density_is_outcome else "local"
    method = method_class(matrices, SparsityConfig(density, block, scope), method_class.Options(**options))

    def at(index: int) -> StepContext:
        rate = score_lr * linear_rate(index, 10, 100)
        return StepContext(index, 100, 1.0, 0.0, 1e-3, rate, 10, 80, 10)

    method.check(at)


def test_unreachable_density_is_rejected_before_first_step() -> None:
    # Rates sum to r (0.1 + ... + 0.9) = 4.5 r in the warm-up and to r (70 - 70^2 / 180) = 42.78 r until step 80.
    distance = math.log(9)
    check_method("soft-movement", 0.1, score_lr=distance / 47.2)
    with pytest.raises(
        UsageError, match=r"density 0.1 cannot be reached: .* by 2.2 and can .* 2.19 .* 1.01 times"
    ):
        check_method("soft-movement", 0.1, score_lr=distance / 47.4)
    check_method("l0", 0.1, score_lr=(2.197 + math.log(11)) / 47.2)
    with pytest.raises(UsageError, match=r"density 0.1 .* scores must move by 4.59"):
        check_method("l0", 0.1, score_lr=(2.197 + math.log(11)) / 47.4)
    check_method("soft-movement", 1.0, score_lr=1e-9, lambda_=3.0)


@pytest.mark.parametrize(
    ("name", "density", "block", "message"),
    [
        # 800 and 1600 weights: at least 4 and 8 are kept.
        (
            "soft-movement",
            0.004,
            (1, 1),
            r"density 0.004: method soft-movement keeps at least 0.005 .* give at least 0.005",
        ),
        ("soft-movement", 0.01, (20, 40), r"or one block of each matrix; give at least 0.67"),
        (
            "magnitude",
            0.2,
            (20, 20),
            r"density 0.2: keeps 0 of the 2 20x20 blocks of layer.0.w; give at least 0.5 or a smaller block$",
        ),
        (
            "obert",
            6e-4,
            (1, 1),
            r"keeps 0 of the 800 weights of layer.0.w; give at least 0.0013$",
        ),
        ("rpp", 0.08, (20, 20), r"keeps 0 of the 6 20x20 blocks of the 2 matrices ranked with layer.0.w"),
        ("smp", 0.08, (20, 20), r"keeps 0 of the 6 20x20 blocks of the 2 matrices ranked with layer.0.w"),
        ("l0", 0.08, (20, 20), r"keeps 0 of the 6 20x20 blocks"),
    ],
)
def test_density_below_one_block_is_rejected_before_first_step(
    name: str, density: float, block: tuple[int, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_method(name, density, 1.0, block)


def test_density_that_rounds_up_to_one_block_is_accepted() -> None:
    for name, density in (("magnitude", 0.25), ("smp", 0.09), ("rpp", 0.09), ("l0", 0.09)):
        check_method(name, density, 1.0, (20, 20))
    check_method("soft-movement", 0.0047, 1.0)


def train_regression(
    name: str, density: float, total: int = 400, **options: Any
) -> tuple[Method, list[float]]:
    """Prune two layers of different size in a regression; return the method and the strength in each step."""
    torch.manual_seed(0)
    linears = {"a": nn.Linear(64, 128), "b": nn.Linear(128, 32)}
    model = nn.Sequential(linears["a"], nn.Tanh(), linears["b"])
    inputs = torch.randn(256, 64)
    targets = torch.tanh(inputs @ (torch.randn(64, 32) * (torch.rand(64, 32) < 0.05)))
    method_class = METHODS.get(name)
    sparsity = SparsityConfig(density, (1, 1), "global")
    method = method_class(linears, sparsity, method_class.Options(**options))
    schedule = Cubic(1.0, density, total, warmup=total // 10, initial=1, final=2)
    groups = [{"params": list(method.weights.values()), "lr": 3e-3}]
    peak = max(method.score_lr, 5e-2)
    if scores := list(method.score_parameters()):
        groups.append({"params": scores, "lr": peak})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    strengths = []
    for index in range(total):
        factor = linear_rate(index, schedule.warmup, total)
        for group, rate in zip(optimizer.param_groups, (3e-3, peak), strict=False):
            group["lr"] = rate * factor
        begin, finish = map(math.ceil, schedule.descent)
        step = StepContext(
            index,
            total,
            schedule.density(index),
            schedule.progress(index),
            3e-3 * factor,
            peak * factor,
            begin,
            finish,
        )
        method.before_step(step)
        rows = torch.randint(256, (32,))
        penalty = method.penalty()
        loss = (model(inputs[rows]) - targets[rows]).square().mean()
        (loss if penalty is None else loss + penalty).backward()
        optimizer.step()
        method.after_step(step, optimizer)
        values = method.log_values()
        strengths.append(values.get("lambda", values.get("gamma", 0.0)))
        optimizer.zero_grad()
    return method, strengths


@pytest.mark.parametrize("density", [0.3, 0.1, 0.03])
@pytest.mark.parametrize("name", CONTROLLED)
def test_final_density_is_within_half_a_point(name: str, density: float) -> None:
    method, strengths = train_regression(name, density)
    masks = method.fold().values()
    kept = sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)
    assert kept == pytest.approx(density, abs=0.005)
    assert len(set(strengths)) > 50


@pytest.mark.parametrize("total", [60, 1500])
@pytest.mark.parametrize(
    "options",
    [{}, {"reweightings": 0}, {"finetune": True}, {"finetune": True, "reweightings": 0}, {"adaptive": True}],
)
def test_rpp_reaches_exact_density(options: dict[str, Any], total: int) -> None:
    method, _ = train_regression("rpp", 0.1, total, **options)
    kept = sum(int(mask.sum()) for mask in method.fold().values())
    assert kept == pytest.approx(0.1 * (64 * 128 + 128 * 32), abs=1)


def test_reachability_is_checked_after_warmup() -> None:
    """The descent starts at step 0 with rate 0. After the warm-up, rates sum to 0.1 (90 - 90^2 / 180) = 4.5."""
    controller = DensityController(density=0.5, threshold=-2.0, strength=8.0)
    scores = torch.tensor([1.0, 0.0, -1.0, 2.0])
    for index in range(10):
        step = StepContext(
            index, 100, 0.9, 0.1, 1e-3, score_lr=0.1 * linear_rate(index, 10, 100), finish=100, warmup=10
        )
        assert controller.after_step(step, [scores]) == {}
    step = StepContext(10, 100, 0.9, 0.1, 1e-3, score_lr=0.1, finish=100, warmup=10)
    assert controller.after_step(step, [scores]) == {}
    with pytest.raises(UsageError, match=r"must move by 12.5 and can move by at most 4.5 "):
        DensityController(density=0.5, threshold=-12.0, strength=8.0).after_step(step, [scores])
