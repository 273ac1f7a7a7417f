from __future__ import annotations

import numpy as np
import pytest

from aerogel.data.metrics import accuracy, accuracy_and_f1, correlations, matthews

# 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
PREDICTIONS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
LABELS = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])


def test_classification_metrics_by_hand() -> None:
    assert accuracy(PREDICTIONS, LABELS) == {"accuracy": pytest.approx(0.7)}
    assert accuracy_and_f1(PREDICTIONS, LABELS)["f1"] == pytest.approx(6 / 9)
    assert matthews(PREDICTIONS, LABELS) == {
        "matthews": pytest.approx((3 * 4 - 1 * 2) / (4 * 5 * 5 * 6) ** 0.5)
    }


def test_constant_prediction_has_zero_f1_and_no_warning() -> None:
    assert accuracy_and_f1(np.zeros(4, int), np.array([0, 1, 1, 0])) == {"accuracy": 0.5, "f1": 0.0}
    assert matthews(np.zeros(4, int), np.array([0, 1, 1, 0])) == {"matthews": 0.0}


def test_correlations_by_hand() -> None:
    found = correlations(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]))
    # Deviations (-4/3, -1/3, 5/3) and (-1, 1, 0); ranks (1, 2, 3) and (1, 3, 2).
    assert found["pearson"] == pytest.approx(1.0 / np.sqrt(42 / 9 * 2))
    assert found["spearman"] == pytest.approx(0.5)


def test_constant_predictions_have_zero_correlation() -> None:
    assert correlations(np.ones(3), np.array([1.0, 2.0, 3.0])) == {"pearson": 0.0, "spearman": 0.0}


def test_metrics_equal_their_definitions() -> None:
    """Compare with written-out formulas on random predictions, also with ties."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        predicted, true = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
        tp, fp, fn, tn = (
            int(((predicted == a) & (true == b)).sum()) for a, b in ((1, 1), (1, 0), (0, 1), (0, 0))
        )
        assert accuracy_and_f1(predicted, true) == {
            "accuracy": pytest.approx((tp + tn) / 50),
            "f1": pytest.approx(2 * tp / (2 * tp + fp + fn)),
        }
        below = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
        assert matthews(predicted, true)["matthews"] == pytest.approx((tp * tn - fp * fn) / below)
        values, truth = rng.integers(0, 8, 30).astype(np.float32), rng.uniform(0, 5, 30)
        found = correlations(values, truth)
        assert found["pearson"] == pytest.approx(_pearson(values, truth))
        assert found["spearman"] == pytest.approx(_pearson(_ranks(values), _ranks(truth)))


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(dtype=np.float64), y - y.mean()
    return float((x * y).sum() / ((x * x).sum() * (y * y).sum()) ** 0.5)


def _ranks(x: np.ndarray) -> np.ndarray:
    """Mean rank of equal values."""
    return np.array([(x < value).sum() + ((x == value).sum() + 1) / 2 for value in x])
