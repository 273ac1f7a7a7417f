from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aerogel.errors import TrainingError, UsageError
from aerogel.train.method import SparsityConfig, StepContext
from aerogel.train.methods.obert import METHOD, Fisher, Obert, ObertOptions

DAMP = 1e-3


def gradients(count: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, *shape)) * 0.1


def reordered(matrix: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Weights in the order in which the Fisher matrix is divided into blocks."""
    (rows, cols), (r, c) = matrix.shape, block
    parts = [matrix[i : i + r, j : j + c].reshape(-1) for i in range(0, rows, r) for j in range(0, cols, c)]
    return np.concatenate(parts)


def explicit_inverse(samples: np.ndarray, block: tuple[int, int], size: int) -> np.ndarray:
    """Inverse of damp I + mean of g g^T, with entries outside of the diagonal blocks of `size` set to 0."""
    flat = np.stack([reordered(g, block) for g in samples])
    fisher = flat.T @ flat / len(samples)
    blocks = np.arange(flat.shape[1]) // size
    fisher[blocks[:, None] != blocks[None, :]] = 0
    return np.linalg.inv(DAMP * np.eye(flat.shape[1]) + fisher)


@pytest.mark.parametrize(
    ("shape", "block", "size"),
    [
        ((4, 6), (1, 1), 5),
        ((4, 6), (1, 1), 24),
        ((4, 6), (2, 3), 12),
        ((4, 6), (4, 1), 8),
        ((3, 5), (1, 1), 7),
    ],
)
@pytest.mark.parametrize("count", [3, 8, 19])
def test_inverse_matches_explicit_matrix(
    shape: tuple[int, int], block: tuple[int, int], size: int, count: int
) -> None:
    fisher = Fisher(shape, block, size, torch.device("cpu"))
    samples = gradients(count, shape)
    for gradient in samples:
        fisher.add(torch.from_numpy(gradient))
    ((part, inverse),) = fisher.inverses(DAMP)
    expected = explicit_inverse(samples, block, size)
    total = shape[0] * shape[1]
    for at in range(part.stop):
        stop = min(size, total - at * size)
        wanted = expected[at * size : at * size + stop, at * size : at * size + stop]
        # F is summed in float32; its condition is at most max F / damp, about 100.
        np.testing.assert_allclose(
            inverse[at, :stop, :stop], wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max()
        )


def test_inverse_matches_rank_one_updates_of_the_paper() -> None:
    samples = gradients(6, (1, 4))
    inverse = np.eye(4) / DAMP
    for g in samples.reshape(6, 4):
        column = inverse @ g
        inverse -= np.outer(column, column) / (6 + g @ column)
    np.testing.assert_allclose(inverse, explicit_inverse(samples, (1, 1), 4), rtol=1e-9, atol=1e-9)


def attached(weight: np.ndarray, density: float, block: tuple[int, int], **options: float) -> Obert:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data.copy_(torch.from_numpy(weight))
    return METHOD({"w": linear}, SparsityConfig(density, block), ObertOptions(damp=DAMP, **options))


@pytest.mark.parametrize(("block", "size"), [((1, 1), 6), ((1, 1), 24), ((2, 3), 12)])
def test_scores_and_update_match_numpy(block: tuple[int, int], size: int) -> None:
    shape, (r, c) = (4, 6), block
    weight = np.random.default_rng(1).standard_normal(shape)
    samples = gradients(10, shape)
    method = attached(weight, 0.5, block, fisher_block=size)
    for gradient in samples:
        method._fisher("w").add(torch.from_numpy(gradient))
    inverse, w = explicit_inverse(samples, block, size), reordered(weight, block)
    block_size = r * c
    groups = [np.arange(start, start + block_size) for start in range(0, w.size, block_size)]
    costs = np.array([w[q] @ np.linalg.inv(inverse[np.ix_(q, q)]) @ w[q] / 2 for q in groups])
    np.testing.assert_allclose(method.scores()["w"].reshape(-1), costs, rtol=1e-3)

    removed = np.argsort(costs)[: len(groups) // 2]
    update = sum(
        inverse[:, groups[b]] @ np.linalg.inv(inverse[np.ix_(groups[b], groups[b])]) @ w[groups[b]]
        for b in removed
    )
    expected = w - update
    expected[np.concatenate([groups[b] for b in removed])] = 0
    method.finalize()
    found = reordered(method.weights["w"].detach().numpy(), block)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert ((found == 0) == (expected == 0)).all()
    # The remaining weights have changed, unlike in magnitude pruning.
    assert np.abs(found - w)[expected != 0].max() > 0.05


def test_removal_of_one_weight_matches_hand_computed_value() -> None:
    """g = (1, 1): F = damp I + [[1, 1], [1, 1]]; the remaining weight takes over nearly all of the removed one."""
    method = attached(np.array([[2.0, 1.0]]), 0.5, (1, 1), fisher_block=2)
    method._fisher("w").add(torch.ones(1, 2))
    method.finalize()
    a, b = 1 + DAMP, -1.0  # F^-1 is [[a, b], [b, a]] / det; det cancels
    assert method.weights["w"].tolist() == [[pytest.approx(2.0 - 1.0 * b / a, rel=1e-4), 0.0]]


def test_events_and_their_densities() -> None:
    method = attached(np.random.default_rng(2).standard_normal((10, 10)), 0.1, (1, 1), events=4, gradients=2)
    kept, collected = [], []
    for index in range(12):
        left = min(1.0, max(0.0, (9 - index) / 6)) ** 3
        step = StepContext(index, 12, 0.5, progress=1.0 - left, lr=1e-3, begin=3, finish=9)
        method.before_step(step)
        kept.append(int(method.masks["w"].mask.sum()))
        method.matrices["w"].weight.square().sum().backward()
        method.after_backward(step)
        method.weights["w"].grad = None
        collected.append(method.fisher["w"].gradients if method.fisher else 0)
    # Events at 3, 5, 7 and 9 with density 0.1 + 0.2 (1, 8/27, 1/27, 0)
    assert kept == [100] * 3 + [30] * 2 + [16] * 2 + [11] * 2 + [10] * 3
    assert collected == [0, 1, 2, 1, 2, 1, 2, 1, 2, 0, 0, 0]
    assert method.log_values() == {"achieved": 0.1}
    assert int(method.fold()["w"].sum()) == 10


def test_state_round_trip_between_events() -> None:
    weight, samples = np.random.default_rng(3).standard_normal((6, 10)), gradients(21, (6, 10))
    straight, stopped = (attached(weight, 0.3, (1, 1)) for _ in range(2))
    for method in (straight, stopped):
        for gradient in samples[:11]:
            method._fisher("w").add(torch.from_numpy(gradient))
    resumed = attached(weight, 0.3, (1, 1))
    resumed.load_state_dict(stopped.state_dict())
    for method in (straight, resumed):
        for gradient in samples[11:]:
            method._fisher("w").add(torch.from_numpy(gradient))
        method.finalize()
    assert torch.equal(straight.weights["w"], resumed.weights["w"])


def test_memory_matches_docstring() -> None:
    fisher = Fisher((100, 100), (1, 1), 50, torch.device("cpu"))
    assert sum(strip.numel() for strip in fisher.strips) == 0.6 * 50 * 100 * 100


@pytest.mark.parametrize(
    "values",
    [{"gradients": 0}, {"damp": 0.0}, {"events": 0}, {"first": 0.0}, {"first": 1.5}, {"fisher_block": 0}],
)
def test_options_out_of_range_are_rejected(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(UsageError, match=f"option {name}="):
        ObertOptions(**values)


def test_fisher_block_is_multiple_of_pruning_block() -> None:
    assert [attached(np.ones((16, 16)), 0.5, block).size for block in ((1, 1), (4, 1), (1, 3 + 1), (2, 8), (8, 8))] == [
        50, 32, 32, 32, 64,
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"option fisher_block=50: must be a multiple of 4 for block 4x1"):
        attached(np.ones((16, 16)), 0.5, (4, 1), fisher_block=50)


def test_gradients_with_inf_are_skipped() -> None:
    """With fp16, the optimizer skips such steps; the mask follows from the finite gradients."""
    random = np.random.default_rng(4)
    weight, samples = random.standard_normal((4, 10)), random.standard_normal((6, 4, 10))
    masks = []
    for broken in (False, True):
        method = attached(weight, 0.5, (1, 1))
        for index, gradient in enumerate(samples):
            for value in (gradient, np.full((4, 10), np.inf)) if broken else (gradient,):
                method.weights["w"].grad = torch.from_numpy(value).to(method.weights["w"].dtype)
                method.after_backward(StepContext(index, 20, 1.0, progress=0.0, lr=1e-3, begin=10, finish=18))
        masks.append(method.fold()["w"])
    assert masks[0].sum() == 20
    assert (masks[0] == masks[1]).all()


def test_indefinite_matrix_is_inverted() -> None:
    fisher = Fisher((1, 4), (1, 1), 4, torch.device("cpu"))
    for index in (0, 2):
        fisher.add(torch.eye(4)[index : index + 1])
    ((_, inverse),) = fisher.inverses(DAMP)
    torch.testing.assert_close(inverse[0].diagonal(), 1 / (torch.tensor([0.5, 0, 0.5, 0]).double() + DAMP))
    fisher.strips[0][0, 0, 0] = -3.0  # sum of two gradients
    ((_, inverse),) = fisher.inverses(DAMP)
    torch.testing.assert_close(inverse[0].diagonal(), 1 / (torch.tensor([-1.5, 0, 0.5, 0]).double() + DAMP))


def step_at(index: int, begin: int) -> StepContext:
    return StepContext(index, 100, 1.0, 0.0, 1e-3, begin=begin, finish=90)


def test_event_without_gradients_is_rejected() -> None:
    method = METHOD({"w": nn.Linear(8, 8)}, SparsityConfig(0.5), ObertOptions())
    method.check(lambda index: step_at(index, begin=1))
    with pytest.raises(
        UsageError, match=r"needs gradients before the descent, .*; set warmup and initial_warmup above 0"
    ):
        method.check(lambda index: step_at(index, begin=0))


def test_fisher_matrix_larger_than_memory_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    # 40 blocks of 32 x 32 weights, in strips of 205, 205, 205, 205 and 204 rows.
    method = METHOD({"w": nn.Linear(160, 256)}, SparsityConfig(0.5, (32, 32)), ObertOptions())
    numbers = 205 * (1024 + 819 + 614 + 409) + 204 * 204
    fisher = Fisher((160, 256), (32, 32), 1024, torch.device("cpu"))
    needed = 4 * sum(strip.numel() for strip in fisher.strips)
    assert Fisher.bytes_of(160 * 256, 1024) == needed == 4 * 40 * numbers
    monkeypatch.setattr("aerogel.train.methods.obert._memory", lambda: float(needed))
    method.check(lambda index: step_at(index, begin=1))
    monkeypatch.setattr("aerogel.train.methods.obert._memory", lambda: needed - 1.0)
    with pytest.raises(
        UsageError, match=r"in blocks of 1024 weights, needs 0.1 GiB; .*; use a smaller block"
    ):
        method.check(lambda index: step_at(index, begin=1))


def test_nan_scores_are_reported_with_matrix_name() -> None:
    method = METHOD({"a": nn.Linear(8, 8), "w": nn.Linear(8, 8)}, SparsityConfig(0.5), ObertOptions(events=1))
    for name, size in (("a", 1.0), ("w", 1e30)):
        method.matrices[name].weight.sum().backward()
        method.weights[name].grad.fill_(size)
    method.after_backward(step_at(50, begin=10))
    with pytest.raises(TrainingError, match="the scores of w contain NaN; lower lr"):
        method.before_step(step_at(90, begin=10))
