from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aerogel.cost import cache, check, measure
from aerogel.cost.calibrate import calibrate
from aerogel.cost.check import Comparison, summarize
from aerogel.cost.measure import Stopwatch
from aerogel.cost.model import EncoderShape
from aerogel.cost.models import dense_layers
from aerogel.cost.packed_shape import PackedShape
from aerogel.cost.predict import Entry, predict
from aerogel.cost.report import calibration_table, check_table, check_verdict
from aerogel.errors import MissingExtraError, RuntimeLoadError, UsageError
from aerogel.system.cache import CACHE_VARIABLE


@pytest.mark.usefixtures("quick")
def test_calibration_is_saved_found_and_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The cache folder of the other tests must stay empty.
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    steps: list[tuple[int, int]] = []
    made, busy = calibrate(1, lambda _, done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
    assert isinstance(busy, str)
    cache.save(made)
    assert cache.find(1) == made
    packed = PackedShape((32, 16), "fp32", 4, 0.5, 0.5, 1, 1, 1)
    assert made.packed_seconds(packed, 8) > 0
    assert made.dense_seconds((32, 16), 8) > 0
    assert 0 <= made.break_even(packed, 8) <= 1
    found = predict(made, {"l.0.w": Entry((32, 16), packed, True)}, EncoderShape(1, 16, 32, 2), fused=True)
    assert found["linear"]["stored_us"] > 0
    assert len(calibration_table(made).rows) == 1 + 9

    masks = {"w": np.eye(16, dtype=bool)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "_SYNTHETIC", check._SYNTHETIC[6:7])
        patch.setattr(check, "_DENSE", ((16, 16),))
        checked = check.check(made, masks, [4, 20])
    assert [(c.storage, c.tokens) for c in checked] == [
        (storage, tokens) for storage in ("dense", "csr fp32", "csr fp32", "csr int8") for tokens in (4, 20)
    ]
    assert all(c.predicted >= 0 and c.measured > 0 for c in checked)
    assert len(check_table(checked).rows) == 8


def test_summary_of_errors() -> None:
    one = Comparison("", (1, 1), "dense", 1.0, 4, predicted=1.1, measured=1.0, count=1)
    found = [one, replace(one, predicted=1.6, measured=2.0, count=3)]
    assert [c.ratio for c in found] == [1.1, 0.8]
    together = summarize(found)
    assert together.ratio == pytest.approx((1.1 + 3 * 1.6) / (1 + 3 * 2))
    assert together.mean_error == pytest.approx(0.15)
    assert together.within_15_percent == 0.5
    assert check_verdict(found) == (
        "4 tokens: predicted over measured 0.843 in total, 15.0% off on average, 50% of 2 within 15%"
    )


def test_shortest_of_several_runs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 5.0, 10.0, 12.0, 20.0, 29.0])
    watch = Stopwatch(1)
    watch._clock = lambda: next(ticks)
    monkeypatch.setattr(measure, "_MIN_RUNS", 3)
    monkeypatch.setattr(measure, "_MAX_RUNS", 3)
    runs: list[None] = []
    assert watch.best_seconds(lambda: runs.append(None), cached=True) == 2
    assert len(runs) == 1 + 3  # the first run is a warm-up


def test_busy_machine_gives_a_warning() -> None:
    watch = Stopwatch(1)
    assert watch.busy_warning() == ""
    watch._wall, watch._used = 10.0, 9.8
    assert watch.busy_warning() == ""
    watch._used = 7.0
    assert "other programs took 30% of the time" in watch.busy_warning()


def test_timed_model_with_several_outputs_of_one_shape() -> None:
    random = np.random.default_rng(0)
    timed = Stopwatch(1).load(dense_layers(3, (8, 4), random), library=False)
    assert 0 < timed.seconds({"x": random.standard_normal((1, 5, 4), np.float32)}, cached=True) < 60


def test_calibrate_refuses_bad_threads_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (0, -1, 5000):
        with pytest.raises(UsageError, match="--threads"):
            calibrate(threads)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"aerogel\[export\]"):
        calibrate(1)
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    with pytest.raises(RuntimeLoadError, match="native library"):
        calibrate(1)
