from __future__ import annotations

import math

import numpy as np
import pytest

from aerogel.bench.compare import relative_error, without_padding


def test_error_is_relative_to_each_outputs_largest_value() -> None:
    expected = [np.array([1.0, -2.0]), np.array([100.0, 0.0])]
    outputs = [np.array([1.0, -2.001]), np.array([100.01, 0.0])]
    assert relative_error(outputs, expected) == pytest.approx(0.0005)
    assert relative_error(expected, expected) == 0
    assert relative_error([np.zeros(2)], [np.zeros(2)]) == 0


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([np.array([np.nan])], [np.array([1.0])]),
        ([np.array([np.inf])], [np.array([1.0])]),
        ([np.ones((2, 1))], [np.ones((1, 2))]),
        ([np.ones(1)], [np.ones(1), np.ones(1)]),
        ([np.ones(1)], [np.zeros(1)]),
    ],
)
def test_outputs_that_cannot_be_compared_have_infinite_error(
    outputs: list[np.ndarray], expected: list[np.ndarray]
) -> None:
    assert relative_error(outputs, expected) == math.inf


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_non_finite_reference_gives_nan(value: float) -> None:
    assert math.isnan(relative_error([np.array([value])], [np.array([value])]))


def test_only_outputs_per_token_lose_their_padding() -> None:
    tokens = np.arange(12.0).reshape(2, 3, 2)
    starts, pooled = tokens[..., 0], np.ones((2, 5))
    found = without_padding([tokens, starts, pooled], [1, 3])
    assert found[0].tolist() == [[0, 1], [6, 7], [8, 9], [10, 11]]
    assert found[1].tolist() == [0, 6, 8, 10]
    assert found[2] is pooled


def test_without_lengths_nothing_is_padding() -> None:
    array = np.ones((2, 3))
    assert without_padding([array], ())[0] is array
