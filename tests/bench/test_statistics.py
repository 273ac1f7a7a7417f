from __future__ import annotations

import pytest

from aerogel.bench.statistics import Latency, speedup, summarise


def test_percentiles_of_known_times() -> None:
    # 1 to 101 ms: percentile p is 1 + p milliseconds exactly.
    latency = summarise([[n / 1000 for n in range(1, 102)]])
    assert (latency.median, latency.p90, latency.p99) == pytest.approx((51, 91, 100))
    assert latency.round_medians == pytest.approx([51])
    assert latency.spread == 0


def test_spread_is_the_quartile_distance_of_round_medians_over_the_median() -> None:
    # Medians 10, 20, 30, 40, 50 ms: quartiles 20 and 40 around 30.
    latency = summarise([[m / 1000] * 3 for m in (10, 50, 20, 40, 30)])
    assert latency.round_medians == pytest.approx([10, 50, 20, 40, 30])
    assert latency.median == pytest.approx(30)
    assert latency.spread == pytest.approx(20 / 30)


def test_median_is_over_all_iterations_not_over_rounds() -> None:
    assert summarise([[0.001], [0.002], [0.010, 0.010, 0.010, 0.010]]).median == pytest.approx(10)


def test_speedup_compares_rounds_so_that_a_common_drift_cancels() -> None:
    drift = [10.0, 20.0, 40.0, 80.0]
    gain = speedup(_latency(drift), _latency([t / 4 for t in drift]))
    assert (gain.low, gain.median, gain.high) == pytest.approx((4, 4, 4))


def test_speedup_quartiles() -> None:
    gain = speedup(_latency([2.0, 3.0, 4.0, 5.0, 6.0]), _latency([1.0] * 5))
    assert (gain.low, gain.median, gain.high) == pytest.approx((3, 4, 5))


def _latency(rounds: list[float]) -> Latency:
    return Latency(median=0, p90=0, p99=0, spread=0, round_medians=rounds)
