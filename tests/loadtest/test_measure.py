from __future__ import annotations

import math

import numpy as np
import pytest

from aerogel.errors import DataError, UsageError
from aerogel.loadtest.generator import Load
from aerogel.loadtest.measure import Point, percentile, summarize
from aerogel.loadtest.schedule import arrivals
from aerogel.loadtest.search import find_rate
from aerogel.loadtest.texts import Lengths, texts_from_file, texts_from_lengths


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = np.arange(100, 0, -1.0)
    assert [percentile(values, p) for p in (0.5, 0.9, 0.99, 0.999, 1)] == [50, 90, 99, 100, 100]
    assert percentile(np.array([3.0]), 0.01) == 3
    assert math.isnan(percentile(np.empty(0), 0.5))


def test_latency_counts_from_the_arrival_and_timeouts_count() -> None:
    due = np.array([0.0, 1.0, 2.0, 3.0])
    load = Load(
        due=due,
        sent=np.array([0.001, 1.002, 2.5, np.nan]),
        done=due + np.array([0.1, 0.2, 0.6, 5.0]),
        waited=np.array([False, False, True, False]),
        outcomes=["200", "429", "200", "timeout"],
        start=0.0,
    )
    point = summarize(load, rate=1, warmup=1, seconds=4)
    assert (point.requests, point.failed, point.errors) == (3, 2, {"429": 1, "timeout": 1})
    assert point.p50 == pytest.approx(600)
    assert (point.p99, point.worst) == (pytest.approx(5000), pytest.approx(5000))
    assert point.mean == pytest.approx(2800)
    assert point.lag_p99 == pytest.approx(2)
    assert point.answered == pytest.approx(1 / 7)  # the last answer comes 7 s after the warm-up
    assert not point.holds(1e9)
    assert summarize(load, 1, 0, 4).requests == 4


@pytest.mark.parametrize("rate", [0.5, 40.0, 1000.0])
def test_arrivals_are_a_poisson_process(rate: float) -> None:
    seconds = 4000 / rate
    times = arrivals(rate, seconds, seed=7)
    assert (np.diff(times) > 0).all()
    assert 0 < times[0] < times[-1] < seconds
    assert abs(len(times) - 4000) < 5 * 4000**0.5
    gaps = np.diff(times) * rate
    # An exponential distribution has equal mean and standard deviation, and 1/e of it exceeds the mean.
    assert gaps.mean() == pytest.approx(1, abs=0.1)
    assert gaps.std() == pytest.approx(1, abs=0.1)
    assert (gaps > 1).mean() == pytest.approx(1 / math.e, abs=0.05)
    np.testing.assert_array_equal(times, arrivals(rate, seconds, seed=7))
    assert (
        len(arrivals(rate, seconds, seed=8)) != len(times) or (arrivals(rate, seconds, seed=8) != times).any()
    )


def server(capacity: float, seen: list[float]) -> object:
    def measure(rate: float) -> Point:
        seen.append(rate)
        return Point(rate, 100, rate, p99=10 if rate <= capacity else 1000)

    return measure


@pytest.mark.parametrize("capacity", [1.5, 37.0, 420.0])
@pytest.mark.parametrize("start", [1.0, 10.0, 3000.0])
def test_the_search_finds_the_capacity(capacity: float, start: float) -> None:
    seen: list[float] = []
    found = find_rate(server(capacity, seen), bound=50, start=start, precision=0.05)  # type: ignore[arg-type]
    assert found is not None
    assert capacity / 1.05 <= found.rate <= capacity
    assert seen.count(found.rate) == 2
    assert len(seen) < 30


def test_no_rate_holds_an_impossible_bound() -> None:
    assert find_rate(server(0, []), bound=50, start=10, precision=0.05) is None  # type: ignore[arg-type]


def test_a_lucky_rate_is_lowered_until_it_holds_again() -> None:
    seen: list[float] = []

    def measure(rate: float) -> Point:
        # The server is slower from the first repetition on.
        capacity = 80 if len(set(seen)) < len(seen) or rate in seen else 100
        seen.append(rate)
        return Point(rate, 100, rate, p99=10 if rate <= capacity else 1000)

    found = find_rate(measure, bound=50, start=10, precision=0.05)
    assert found is not None
    assert 70 < found.rate <= 80


def test_an_error_fails_a_rate() -> None:
    assert not Point(1, 10, 1, {"429": 1}, p99=1).holds(50)
    assert not Point(1, 0, 0).holds(50)


def test_lengths_follow_the_distribution() -> None:
    sizes = [len(text.split()) + 2 for text in texts_from_lengths(Lengths(30, 0.8, 100), 4000, seed=1)]
    assert min(sizes) >= 3
    assert max(sizes) == 100
    assert np.median(sizes) == pytest.approx(30, rel=0.1)
    assert set(map(len, map(str.split, texts_from_lengths(Lengths(30, 0, 100), 20, seed=1)))) == {28}
    assert texts_from_lengths(Lengths(), 5, 3) == texts_from_lengths(Lengths(), 5, 3)


def test_texts_come_from_the_lines_of_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "texts.txt"
    file.write_text("one\n\n two \n")
    found = texts_from_file(file, 50, seed=0)
    assert set(found) == {"one", " two "}
    file.write_text("\n")
    with pytest.raises(UsageError, match="no texts"):
        texts_from_file(file, 5, seed=0)
    with pytest.raises(DataError, match="cannot be read"):
        texts_from_file(tmp_path / "gone", 5, seed=0)
