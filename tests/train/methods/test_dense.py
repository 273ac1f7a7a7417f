from __future__ import annotations

import pytest
from torch import nn
from torch.nn.utils import parametrize

from aerogel.errors import UsageError
from aerogel.train.method import SparsityConfig
from aerogel.train.methods.dense import METHOD


def test_nothing_is_put_in_front_of_the_weights() -> None:
    linear = nn.Linear(4, 4)
    method = METHOD({"w": linear}, SparsityConfig(1.0))
    method.update(1.0)
    assert not parametrize.is_parametrized(linear)
    assert method.bake() == {}


@pytest.mark.parametrize(
    "target", [SparsityConfig(0.1), SparsityConfig(1.0, (4, 1)), SparsityConfig(1.0, scope="global")]
)
def test_a_target_is_refused(target: SparsityConfig) -> None:
    with pytest.raises(UsageError, match="--method dense prunes nothing"):
        METHOD({}, target)
