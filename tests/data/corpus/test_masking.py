from __future__ import annotations

import numpy as np
import pytest

from aerogel.data.corpus.masking import mask_tokens
from aerogel.data.features import IGNORED

MASK, VOCABULARY = 4, np.arange(100, 1100)


def masked(ids: np.ndarray, ordinary: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return mask_tokens(ids, ordinary, MASK, VOCABULARY, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("ordinary", "count"), [(0, 0), (1, 1), (3, 1), (9, 1), (10, 2), (16, 2), (17, 3), (125, 19), (1000, 150)]
)
def test_the_number_of_labels_is_exact(ordinary: int, count: int) -> None:
    ids = np.arange(50, 53 + ordinary)
    mask = np.r_[False, np.ones(ordinary, bool), False, False]
    inputs, labels = masked(ids, mask)
    assert np.count_nonzero(labels != IGNORED) == count
    assert (labels[labels != IGNORED] == ids[labels != IGNORED]).all()
    # Special tokens and tokens that were not chosen are unchanged.
    assert (labels[~mask] == IGNORED).all()
    assert (inputs[labels == IGNORED] == ids[labels == IGNORED]).all()


def test_masks_80_replaces_10_and_keeps_10_percent() -> None:
    ids = np.full(400_000, 50)
    inputs, labels = masked(ids, np.ones(len(ids), bool))
    chosen = inputs[labels != IGNORED]
    assert len(chosen) == 60_000
    # Standard deviations: 0.0016 and 0.0012.
    assert (chosen == MASK).mean() == pytest.approx(0.8, abs=0.007)
    assert (chosen == 50).mean() == pytest.approx(0.1, abs=0.005)
    other = chosen[(chosen != MASK) & (chosen != 50)]
    assert np.isin(other, VOCABULARY).all()
    # Each entry of the vocabulary is drawn about six times.
    assert np.bincount(other - 100, minlength=1000).max() < 25
    assert len(np.unique(other)) > 950


def test_chooses_every_position_equally_often() -> None:
    ids, ordinary = np.arange(200, 220), np.ones(20, bool)
    counts = np.zeros(20)
    for seed in range(2000):
        counts += masked(ids, ordinary, seed)[1] != IGNORED
    # 300 expected for each; the standard deviation is 16.
    assert 230 < counts.min() <= counts.max() < 370


def test_does_not_change_its_arguments() -> None:
    ids = np.arange(200, 300)
    masked(ids, np.ones(100, bool))
    assert (ids == np.arange(200, 300)).all()
