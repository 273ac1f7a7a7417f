from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from aerogel.errors import UsageError
from aerogel.train.method import SparsityConfig, StepContext
from aerogel.train.methods.magnitude import Magnitude


def test_fold_leaves_plain_weights_with_positive_zeros() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data.copy_(torch.tensor([[-1.0, 4.0], [-2.0, 3.0]]))
    mask = Magnitude({"w": linear}, SparsityConfig(0.5)).fold()["w"]
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, True], [False, True]]
    assert not parametrize.is_parametrized(linear)
    assert isinstance(linear.weight, nn.Parameter)
    assert linear.weight.tolist() == [[0.0, 4.0], [0.0, 3.0]]
    # -1 * 0 is -0.0, whose sign would reach storage formats and hashes.
    assert not torch.signbit(linear.weight[:, 0]).any()


def test_update_to_density_one_keeps_all_weights() -> None:
    linear = nn.Linear(4, 4)
    method = Magnitude({"w": linear}, SparsityConfig(0.5))
    method.update(0.5)
    method.update(1.0)
    assert torch.equal(linear.weight, method.weights["w"])


def test_mask_persists_between_updates() -> None:
    linear = nn.Linear(4, 4)
    method = Magnitude({"w": linear}, SparsityConfig(0.25))
    method.update(0.25)
    assert int(torch.count_nonzero(linear.weight)) == 4
    method.weights["w"].data.fill_(1.0)
    assert int(torch.count_nonzero(linear.weight)) == 4


def test_indivisible_block_leaves_model_unchanged() -> None:
    fits, odd = nn.Linear(4, 4), nn.Linear(4, 6)
    with pytest.raises(UsageError, match="block 4x1 does not divide odd of shape 6x4"):
        Magnitude({"fits": fits, "odd": odd}, SparsityConfig(0.5, (4, 1)))
    assert not parametrize.is_parametrized(fits)


def test_default_hooks_only_update_masks() -> None:
    linear = nn.Linear(4, 4)
    method = Magnitude({"w": linear}, SparsityConfig(0.25))
    step = StepContext(index=3, total=9, density=0.5, progress=0.6, lr=1e-3)
    method.before_step(step)
    assert int(torch.count_nonzero(linear.weight)) == 8
    assert method.penalty() is None
    method.after_backward(step)
    optimizer = torch.optim.AdamW([method.weights["w"]])
    before = method.weights["w"].detach().clone()
    assert method.after_step(step, optimizer) == method.log_values() == method.state_dict() == {}
    assert torch.equal(method.weights["w"], before)
