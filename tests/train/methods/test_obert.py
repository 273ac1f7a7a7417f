from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aerogel.errors import TrainingError, UsageError
from aerogel.train.method import SparsityConfig, StepContext
from aerogel.train.methods.obert import METHOD, Fisher, Obert, Options

DAMP = 1e-3


def gradients(count: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, *shape)) * 0.1


def reordered(matrix: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """The weights in the order in which they share blocks of the Fisher matrix."""
    (rows, cols), (r, c) = matrix.shape, block
    parts = [matrix[i : i + r, j : j + c].reshape(-1) for i in range(0, rows, r) for j in range(0, cols, c)]
    return np.concatenate(parts)


def explicit_inverse(seen: np.ndarray, block: tuple[int, int], size: int) -> np.ndarray:
    """(damp I + mean of g g^T, where both are of one block of `size`) inverted, for all weights at once."""
    flat = np.stack([reordered(g, block) for g in seen])
    fisher = flat.T @ flat / len(seen)
    places = np.arange(flat.shape[1]) // size
    fisher[places[:, None] != places[None, :]] = 0
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
def test_the_inverse_is_that_of_the_explicit_matrix(
    shape: tuple[int, int], block: tuple[int, int], size: int, count: int
) -> None:
    fisher = Fisher(shape, block, size, torch.device("cpu"))
    seen = gradients(count, shape)
    for gradient in seen:
        fisher.add(torch.from_numpy(gradient))
    ((part, inverse),) = fisher.inverses(DAMP)
    expected = explicit_inverse(seen, block, size)
    total = shape[0] * shape[1]
    for at in range(part.stop):
        stop = min(size, total - at * size)
        wanted = expected[at * size : at * size + stop, at * size : at * size + stop]
        # F is summed in float32; its condition is at most max F / damp, about 100.
        np.testing.assert_allclose(
            inverse[at, :stop, :stop], wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max()
        )


def test_it_is_what_the_paper_s_rank_one_updates_give() -> None:
    seen = gradients(6, (1, 4))
    inverse = np.eye(4) / DAMP
    for g in seen.reshape(6, 4):
        column = inverse @ g
        inverse -= np.outer(column, column) / (6 + g @ column)
    np.testing.assert_allclose(inverse, explicit_inverse(seen, (1, 1), 4), rtol=1e-9, atol=1e-9)


def attached(weight: np.ndarray, density: float, block: tuple[int, int], **options: float) -> Obert:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data.copy_(torch.from_numpy(weight))
    return METHOD({"w": linear}, SparsityConfig(density, block), Options(damp=DAMP, **options))


@pytest.mark.parametrize(("block", "size"), [((1, 1), 6), ((1, 1), 24), ((2, 3), 12)])
def test_scores_and_update_against_numpy(block: tuple[int, int], size: int) -> None:
    shape, (r, c) = (4, 6), block
    weight = np.random.default_rng(1).standard_normal(shape)
    seen = gradients(10, shape)
    method = attached(weight, 0.5, block, fisher_block=size)
    for gradient in seen:
        method._fisher("w").add(torch.from_numpy(gradient))
    inverse, w = explicit_inverse(seen, block, size), reordered(weight, block)
    together = r * c
    groups = [np.arange(at, at + together) for at in range(0, w.size, together)]
    costs = np.array([w[q] @ np.linalg.inv(inverse[np.ix_(q, q)]) @ w[q] / 2 for q in groups])
    np.testing.assert_allclose(method.scores()["w"].reshape(-1), costs, rtol=1e-3)

    removed = np.argsort(costs)[: len(groups) // 2]
    update = sum(
        inverse[:, groups[b]] @ np.linalg.inv(inverse[np.ix_(groups[b], groups[b])]) @ w[groups[b]]
        for b in removed
    )
    expected = w - update
    expected[np.concatenate([groups[b] for b in removed])] = 0
    method.settle()
    found = reordered(method.weights["w"].detach().numpy(), block)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert ((found == 0) == (expected == 0)).all()
    # What is left has moved: this is not magnitude pruning.
    assert np.abs(found - w)[expected != 0].max() > 0.05


def test_one_weight_by_hand() -> None:
    """g = (1, 1): F = damp I + [[1, 1], [1, 1]]; removing a weight gives nearly all of it to the other."""
    method = attached(np.array([[2.0, 1.0]]), 0.5, (1, 1), fisher_block=2)
    method._fisher("w").add(torch.ones(1, 2))
    method.settle()
    a, b = 1 + DAMP, -1.0  # F^-1 is [[a, b], [b, a]] over a determinant that cancels
    assert method.weights["w"].tolist() == [[pytest.approx(2.0 - 1.0 * b / a, rel=1e-4), 0.0]]


def test_events_and_their_densities() -> None:
    method = attached(np.random.default_rng(2).standard_normal((10, 10)), 0.1, (1, 1), events=4, gradients=2)
    kept, gathered = [], []
    for index in range(12):
        left = min(1.0, max(0.0, (9 - index) / 6)) ** 3
        step = StepContext(index, 12, 0.5, progress=1.0 - left, lr=1e-3, begin=3, finish=9)
        method.before_step(step)
        kept.append(int(method.masks["w"].mask.sum()))
        method.matrices["w"].weight.square().sum().backward()
        method.after_backward(step)
        method.weights["w"].grad = None
        gathered.append(method.fisher["w"].seen if method.fisher else 0)
    # At 3, 5, 7 and 9: 0.1 + 0.2 (1, 8/27, 1/27, 0)
    assert kept == [100] * 3 + [30] * 2 + [16] * 2 + [11] * 2 + [10] * 3
    assert gathered == [0, 1, 2, 1, 2, 1, 2, 1, 2, 0, 0, 0]
    assert method.log_values() == {"achieved": 0.1}
    assert int(method.bake()["w"].sum()) == 10


def test_state_round_trip_in_the_middle_of_gathering() -> None:
    weight, seen = np.random.default_rng(3).standard_normal((6, 10)), gradients(21, (6, 10))
    straight, stopped = (attached(weight, 0.3, (1, 1)) for _ in range(2))
    for method in (straight, stopped):
        for gradient in seen[:11]:
            method._fisher("w").add(torch.from_numpy(gradient))
    resumed = attached(weight, 0.3, (1, 1))
    resumed.load_state_dict(stopped.state_dict())
    for method in (straight, resumed):
        for gradient in seen[11:]:
            method._fisher("w").add(torch.from_numpy(gradient))
        method.settle()
    assert torch.equal(straight.weights["w"], resumed.weights["w"])


def test_memory_is_what_the_docstring_says() -> None:
    fisher = Fisher((100, 100), (1, 1), 50, torch.device("cpu"))
    assert sum(strip.numel() for strip in fisher.strips) == 0.6 * 50 * 100 * 100


@pytest.mark.parametrize(
    "values",
    [{"gradients": 0}, {"damp": 0.0}, {"events": 0}, {"first": 0.0}, {"first": 1.5}, {"fisher_block": 0}],
)
def test_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(UsageError, match=f"--option {name}="):
        Options(**values)


def test_fisher_blocks_hold_whole_pruning_blocks() -> None:
    assert [attached(np.ones((16, 16)), 0.5, block).size for block in ((1, 1), (4, 1), (1, 3 + 1), (2, 8), (8, 8))] == [
        50, 32, 32, 32, 64,
    ]  # fmt: skip
    with pytest.raises(
        UsageError, match=r"--option fisher_block=50: must be a multiple of 4, for blocks of 4x1"
    ):
        attached(np.ones((16, 16)), 0.5, (4, 1), fisher_block=50)


def test_a_gradient_that_overflowed_is_left_out() -> None:
    """As with fp16, whose scaler then makes no step: the mask is the one of the gradients that were finite."""
    random = np.random.default_rng(4)
    weight, seen = random.standard_normal((4, 10)), random.standard_normal((6, 4, 10))
    masks = []
    for broken in (False, True):
        method = attached(weight, 0.5, (1, 1))
        for index, gradient in enumerate(seen):
            for value in (gradient, np.full((4, 10), np.inf)) if broken else (gradient,):
                method.weights["w"].grad = torch.from_numpy(value).to(method.weights["w"].dtype)
                method.after_backward(StepContext(index, 20, 1.0, progress=0.0, lr=1e-3, begin=10, finish=18))
        masks.append(method.bake()["w"])
    assert masks[0].sum() == 20
    assert (masks[0] == masks[1]).all()


def test_an_indefinite_sum_is_inverted_all_the_same() -> None:
    fisher = Fisher((1, 4), (1, 1), 4, torch.device("cpu"))
    for place in (0, 2):
        fisher.add(torch.eye(4)[place : place + 1])
    ((_, inverse),) = fisher.inverses(DAMP)
    torch.testing.assert_close(inverse[0].diagonal(), 1 / (torch.tensor([0.5, 0, 0.5, 0]).double() + DAMP))
    fisher.strips[0][0, 0, 0] = -3.0  # of a sum of two
    ((_, inverse),) = fisher.inverses(DAMP)
    torch.testing.assert_close(inverse[0].diagonal(), 1 / (torch.tensor([-1.5, 0, 0.5, 0]).double() + DAMP))


def step_at(index: int, begin: int) -> StepContext:
    return StepContext(index, 100, 1.0, 0.0, 1e-3, begin=begin, finish=90)


def test_an_event_before_any_gradient_is_refused() -> None:
    made = METHOD({"w": nn.Linear(8, 8)}, SparsityConfig(0.5), Options())
    made.check(lambda index: step_at(index, begin=1))
    with pytest.raises(
        UsageError, match=r"none before the descent, .*; give --warmup and --initial-warmup above 0"
    ):
        made.check(lambda index: step_at(index, begin=0))


def test_a_fisher_matrix_larger_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # 40 blocks of 32 x 32 weights, in strips of 205, 205, 205, 205 and 204 rows.
    made = METHOD({"w": nn.Linear(160, 256)}, SparsityConfig(0.5, (32, 32)), Options())
    numbers = 205 * (1024 + 819 + 614 + 409) + 204 * 204
    fisher = Fisher((160, 256), (32, 32), 1024, torch.device("cpu"))
    needed = 4 * sum(strip.numel() for strip in fisher.strips)
    assert Fisher.bytes_of(160 * 256, 1024) == needed == 4 * 40 * numbers
    monkeypatch.setattr("aerogel.train.methods.obert._memory", lambda: float(needed))
    made.check(lambda index: step_at(index, begin=1))
    monkeypatch.setattr("aerogel.train.methods.obert._memory", lambda: needed - 1.0)
    with pytest.raises(
        UsageError, match=r"in blocks of 1024 weights, needs 0.1 GiB, .*; give a smaller --block"
    ):
        made.check(lambda index: step_at(index, begin=1))


def test_scores_that_are_not_numbers_are_told_by_the_matrix() -> None:
    made = METHOD({"a": nn.Linear(8, 8), "w": nn.Linear(8, 8)}, SparsityConfig(0.5), Options(events=1))
    for name, size in (("a", 1.0), ("w", 1e30)):
        made.matrices[name].weight.sum().backward()
        made.weights[name].grad.fill_(size)
    made.after_backward(step_at(50, begin=10))
    with pytest.raises(TrainingError, match="the scores of w are not numbers; lower --lr"):
        made.before_step(step_at(90, begin=10))
