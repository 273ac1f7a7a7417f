from __future__ import annotations

import pytest
from torch import nn
from torch.nn.utils import parametrize

from aerogel.errors import UsageError
from aerogel.train.method import SparsityConfig
from aerogel.train.methods.dense import METHOD


def test_dense_adds_no_parametrization() -> None:
    linear = nn.Linear(4, 4)
    method = METHOD({"w": linear}, SparsityConfig(1.0))
    method.update(1.0)
    assert not parametrize.is_parametrized(linear)
    assert method.fold() == {}


@pytest.mark.parametrize(
    "sparsity", [SparsityConfig(0.1), SparsityConfig(1.0, (4, 1)), SparsityConfig(1.0, scope="global")]
)
def test_sparsity_is_rejected(sparsity: SparsityConfig) -> None:
    with pytest.raises(UsageError, match="method dense prunes nothing"):
        METHOD({}, sparsity)
