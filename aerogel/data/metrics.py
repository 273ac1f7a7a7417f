"""Metrics of the tasks: ``(predictions, labels) -> {name: value}``; both arrays have the shape ``[rows]``."""

from __future__ import annotations

import numpy as np

from aerogel.errors import require

__all__ = ["accuracy", "accuracy_and_f1", "correlations", "matthews"]


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Fraction of correct predictions."""
    metrics = require("sklearn.metrics", "train")
    return {"accuracy": float(metrics.accuracy_score(labels, predictions))}


def accuracy_and_f1(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, and F1 of class 1."""
    metrics = require("sklearn.metrics", "train")
    # A model that never predicts class 1 has F1 = 0; zero_division avoids scikit-learn's warning.
    return accuracy(predictions, labels) | {
        "f1": float(metrics.f1_score(labels, predictions, zero_division=0.0))
    }


def matthews(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Matthews correlation coefficient."""
    metrics = require("sklearn.metrics", "train")
    return {"matthews": float(metrics.matthews_corrcoef(labels, predictions))}


def correlations(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's correlation; 0 if predictions or labels are constant, where both are undefined."""
    stats = require("scipy.stats", "train")
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(stats.pearsonr(predictions, labels).statistic),
        "spearman": float(stats.spearmanr(predictions, labels).statistic),
    }
