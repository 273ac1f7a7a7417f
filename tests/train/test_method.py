from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from aerogel.errors import UsageError
from aerogel.train.method import Target
from aerogel.train.methods.magnitude import Magnitude


def test_baking_leaves_plain_weights_with_positive_zeros() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data.copy_(torch.tensor([[-1.0, 4.0], [-2.0, 3.0]]))
    mask = Magnitude({"w": linear}, Target(0.5)).bake()["w"]
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, True], [False, True]]
    assert not parametrize.is_parametrized(linear)
    assert isinstance(linear.weight, nn.Parameter)
    assert linear.weight.tolist() == [[0.0, 4.0], [0.0, 3.0]]
    # -1 * 0 is -0.0; storage formats and hashes of the weights should not see a sign.
    assert not torch.signbit(linear.weight[:, 0]).any()


def test_density_one_keeps_everything_again() -> None:
    linear = nn.Linear(4, 4)
    method = Magnitude({"w": linear}, Target(0.5))
    method.update(0.5)
    method.update(1.0)
    assert torch.equal(linear.weight, method.weights["w"])


def test_update_holds_between_forward_passes() -> None:
    linear = nn.Linear(4, 4)
    method = Magnitude({"w": linear}, Target(0.25))
    method.update(0.25)
    assert int(torch.count_nonzero(linear.weight)) == 4
    method.weights["w"].data.fill_(1.0)
    assert int(torch.count_nonzero(linear.weight)) == 4


def test_a_block_that_does_not_divide_leaves_the_model_alone() -> None:
    fits, odd = nn.Linear(4, 4), nn.Linear(4, 6)
    with pytest.raises(UsageError, match="block 4x1 does not divide odd of shape 6x4"):
        Magnitude({"fits": fits, "odd": odd}, Target(0.5, (4, 1)))
    assert not parametrize.is_parametrized(fits)
