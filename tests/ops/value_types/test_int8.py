from __future__ import annotations

import numpy as np
import pytest

from aerogel.errors import ExportError
from aerogel.ops.value_types.int8 import VALUE_TYPE


def test_rows_are_scaled_by_their_largest_value() -> None:
    weight = np.array([[127, -1, 2.5, 3.5], [0, 0, 0, 0], [-254, 3, 1, 0]], np.float32)
    values, auxiliary = VALUE_TYPE.encode(weight, "w")
    assert values.dtype == np.int8
    np.testing.assert_array_equal(values, [[127, -1, 2, 4], [0, 0, 0, 0], [-127, 2, 0, 0]])
    assert auxiliary["scale"].dtype == np.float32
    np.testing.assert_array_equal(auxiliary["scale"], [1, 1, 2])
    np.testing.assert_array_equal(
        VALUE_TYPE.decode(values, auxiliary), [[127, -1, 2, 4], [0, 0, 0, 0], [-254, 4, 0, 0]]
    )


def test_rounding_error_is_at_most_half_a_step() -> None:
    weight = np.random.default_rng(0).standard_normal((50, 400)).astype(np.float32)
    values, auxiliary = VALUE_TYPE.encode(weight, "w")
    steps = np.abs(VALUE_TYPE.decode(values, auxiliary) - weight) / auxiliary["scale"][:, None]
    assert 0.49 < steps.max() <= 0.5 + 1e-4
    assert (np.abs(values.astype(int)).max(1) == 127).all()


def test_subnormal_rows_stay_in_range() -> None:
    weight = np.array([[1e-44, -3e-43], [4e-38, -1e-40]], np.float32)
    values, auxiliary = VALUE_TYPE.encode(weight, "w")
    assert np.abs(values.astype(int)).max() <= 127
    assert np.isfinite(VALUE_TYPE.decode(values, auxiliary)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    with pytest.raises(ExportError, match=r"layer\.weight has NaN or infinite values"):
        VALUE_TYPE.encode(np.array([[1, bad]], np.float32), "layer.weight")


def test_activations_round_like_the_onnx_functions() -> None:
    import torch

    x = torch.tensor([[127.0, 2.5, 3.5, -0.5], [0, -254, 3, 0], [0, 0, 0, 0]])
    expected = torch.tensor([[127.0, 2, 4, 0], [0, -254, 4, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(VALUE_TYPE.activations(x), expected, rtol=2**-22, atol=0)
