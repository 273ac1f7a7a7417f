from __future__ import annotations

import torch
from torch import nn

from aerogel.train.method import SparsityConfig
from aerogel.train.methods.magnitude import METHOD


def linear_of(rows: list[list[float]]) -> nn.Linear:
    weight = torch.tensor(rows)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data.copy_(weight)
    return linear


def test_largest_absolute_values_are_kept() -> None:
    linear = linear_of([[0.1, -5.0, 0.2], [3.0, -0.3, 0.0]])
    method = METHOD({"w": linear}, SparsityConfig(1 / 3))
    method.update(1 / 3)
    assert linear.weight.tolist() == [[0.0, -5.0, 0.0], [3.0, 0.0, 0.0]]


def test_pruned_weights_get_no_gradient() -> None:
    linear = linear_of([[1.0, -2.0]])
    method = METHOD({"w": linear}, SparsityConfig(0.5))
    method.update(0.5)
    linear(torch.tensor([7.0, 11.0])).sum().backward()
    assert method.weights["w"].grad.tolist() == [[0.0, 11.0]]


def test_blocks_are_ranked_by_sum_of_absolute_values() -> None:
    # Pairs of columns: |4| + |0| = 4 loses against |-3| + |3| = 6, although 4 is the largest weight.
    linear = linear_of([[4.0, 0.0, -3.0, 3.0]])
    assert METHOD({"w": linear}, SparsityConfig(0.5, (1, 2))).fold()["w"].tolist() == [
        [False, False, True, True]
    ]


def test_global_scope_ranks_all_matrices_together() -> None:
    small, large = linear_of([[1.0, 2.0]]), linear_of([[3.0, 4.0]])
    masks = METHOD({"small": small, "large": large}, SparsityConfig(0.5, scope="global")).fold()
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "small": [[False, False]],
        "large": [[True, True]],
    }
