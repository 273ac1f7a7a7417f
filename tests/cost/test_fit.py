from __future__ import annotations

import numpy as np

from aerogel.cost.fit import fit_costs


def test_exact_costs_are_recovered() -> None:
    features = np.random.default_rng(0).uniform(1, 1e6, (12, 4))
    truth = np.array([3e-6, 0.0, 2e-12, 5e-9])
    np.testing.assert_allclose(fit_costs(features, features @ truth), truth, rtol=1e-6, atol=1e-15)


def test_negative_cost_becomes_zero_and_the_others_are_fitted_again() -> None:
    # Time falls with the second feature. Without that feature, c minimizes (c/4 - 1)^2 + (c/2 - 1)^2:
    # c = (1/4 + 1/2) / (1/16 + 1/4) = 2.4
    found = fit_costs(np.array([[1.0, 1.0], [1.0, 3.0]]), np.array([4.0, 2.0]))
    np.testing.assert_allclose(found, [2.4, 0.0])


def test_errors_are_relative() -> None:
    # One cost for 1 s and 300 s of the same work: the minimum is at (1 + 1/300) / (1 + 1/300^2).
    found = fit_costs(np.array([[1.0], [1.0]]), np.array([1.0, 300.0]))
    np.testing.assert_allclose(found, [(1 + 1 / 300) / (1 + 1 / 300**2)])


def test_unused_feature_costs_nothing() -> None:
    np.testing.assert_allclose(
        fit_costs(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([5.0, 10.0])), [5.0, 0.0]
    )
    np.testing.assert_array_equal(fit_costs(np.zeros((2, 1)), np.ones(2)), [0.0])
