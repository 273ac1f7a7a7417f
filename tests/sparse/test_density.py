import numpy as np

from aerogel.sparse.density import account


def test_counts_by_hand() -> None:
    masks = {"a": np.eye(4, dtype=bool), "b": np.ones((2, 4), bool)}
    result = account(masks, encoder_parameters=30)
    assert result.matrices["a"].kept == 4
    assert result.matrices["a"].density == 0.25
    assert result.density == 12 / 24
    # Six parameters are never pruned and count as kept.
    assert result.encoder_density == 18 / 30


def test_a_dense_model() -> None:
    result = account({}, encoder_parameters=30)
    assert (result.density, result.encoder_density) == (1.0, 1.0)
