import numpy as np

from aerogel.sparse.density import account


def test_densities_by_hand() -> None:
    masks = {"a": np.eye(4, dtype=bool), "b": np.ones((2, 4), bool)}
    result = account(masks, encoder_parameters=30)
    assert result.matrices["a"].kept == 4
    assert result.matrices["a"].density == 0.25
    assert result.density == 12 / 24
    # Six parameters have no mask and count as kept.
    assert result.encoder_density == 18 / 30


def test_a_model_without_masks_has_density_one() -> None:
    result = account({}, encoder_parameters=30)
    assert (result.density, result.encoder_density) == (1.0, 1.0)
