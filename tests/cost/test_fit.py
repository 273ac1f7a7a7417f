from __future__ import annotations

import numpy as np

from aerogel.cost.fit import costs


def test_costs_without_noise_come_out_as_they_went_in() -> None:
    features = np.random.default_rng(0).uniform(1, 1e6, (12, 4))
    truth = np.array([3e-6, 0.0, 2e-12, 5e-9])
    np.testing.assert_allclose(costs(features, features @ truth), truth, rtol=1e-6, atol=1e-15)


def test_a_cost_that_comes_out_negative_is_zero_and_the_others_are_fitted_anew() -> None:
    # Time falls with the second feature. Without it c minimises (c/4 - 1)^2 + (c/2 - 1)^2:
    # c = (1/4 + 1/2) / (1/16 + 1/4) = 2.4
    found = costs(np.array([[1.0, 1.0], [1.0, 3.0]]), np.array([4.0, 2.0]))
    np.testing.assert_allclose(found, [2.4, 0.0])


def test_short_times_count_as_much_as_long_ones() -> None:
    # One cost for 1 s and 300 s of the same work: squared relative errors are least at (1 + 1/300) / (1 + 1/300^2).
    found = costs(np.array([[1.0], [1.0]]), np.array([1.0, 300.0]))
    np.testing.assert_allclose(found, [(1 + 1 / 300) / (1 + 1 / 300**2)])


def test_what_was_never_done_costs_nothing() -> None:
    np.testing.assert_allclose(costs(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([5.0, 10.0])), [5.0, 0.0])
    np.testing.assert_array_equal(costs(np.zeros((2, 1)), np.ones(2)), [0.0])
