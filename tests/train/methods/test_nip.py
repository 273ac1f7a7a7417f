from __future__ import annotations

import torch
from torch import nn

from aerogel.train.method import SparsityConfig
from aerogel.train.methods.nip import METHOD


def test_update_equals_that_of_magnitude() -> None:
    linear = nn.Linear(4, 1, bias=False)
    linear.weight.data.copy_(torch.tensor([[0.1, -5.0, 0.2, 3.0]]))
    assert METHOD({"w": linear}, SparsityConfig(0.5)).fold()["w"].tolist() == [[False, True, False, True]]
    assert linear.weight.tolist() == [[0.0, -5.0, 0.0, 3.0]]
