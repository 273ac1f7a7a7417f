from __future__ import annotations

import itertools

import pytest

from aerogel.errors import UsageError
from aerogel.train.schedule import Cubic, linear_rate, warmup_steps

SCHEDULE = Cubic(start=1.0, end=0.1, total=100, warmup=10, initial=1, final=2)


@pytest.mark.parametrize(
    ("step", "density"),
    [
        (0, 1.0),
        (9, 1.0),
        (10, 1.0),
        (11, 0.1 + 0.9 * (69 / 70) ** 3),
        (45, 0.2125),  # halfway: 0.1 + 0.9 / 8
        (79, 0.1 + 0.9 / 343_000),  # 1 of 70 steps remains
        (80, 0.1),
        (99, 0.1),
    ],
)
def test_density_at_phase_boundaries(step: int, density: float) -> None:
    assert SCHEDULE.density(step) == pytest.approx(density, rel=1e-12)


def test_density_never_rises() -> None:
    values = [SCHEDULE.density(step) for step in range(100)]
    assert all(a >= b for a, b in itertools.pairwise(values))


def test_descent_without_warmup_spans_whole_run() -> None:
    schedule = Cubic(1.0, 0.0, total=4, warmup=0, initial=1, final=2)
    assert [schedule.density(step) for step in range(4)] == [1.0, 27 / 64, 1 / 8, 1 / 64]


@pytest.mark.parametrize(("total", "rejected"), [(29, True), (30, True), (31, False)])
def test_warmups_as_long_as_the_run_are_rejected(total: int, rejected: bool) -> None:
    if rejected:
        with pytest.raises(UsageError, match=r"10 warm-up steps x \(1 initial \+ 2 final\) must be fewer"):
            Cubic(1.0, 0.1, total, warmup=10, initial=1, final=2)
    else:
        assert Cubic(1.0, 0.1, total, warmup=10, initial=1, final=2).density(11) == 0.1


def test_negative_warmups_are_rejected() -> None:
    with pytest.raises(UsageError, match="initial_warmup -1, final_warmup 2: both"):
        Cubic(1.0, 0.1, 100, warmup=10, initial=-1, final=2)


def test_learning_rate_rises_and_falls_linearly() -> None:
    rates = [linear_rate(step, warmup=2, total=6) for step in range(7)]
    assert rates == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert linear_rate(0, warmup=0, total=5) == 1.0


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 0), (0.1, 10), (0.999, 99), (1.0, 1), (25.0, 25)])
def test_warmup_is_fraction_or_count(warmup: float, steps: int) -> None:
    assert warmup_steps(warmup, total=100) == steps


@pytest.mark.parametrize("warmup", [-0.1, 1.5, 100.0, 101.0, float("nan"), float("inf")])
def test_invalid_warmup_is_rejected(warmup: float) -> None:
    with pytest.raises(UsageError, match=r"^warmup"):
        warmup_steps(warmup, total=100)


def test_progress_is_completed_fraction_of_descent() -> None:
    flat = Cubic(1.0, 1.0, total=100, warmup=10, initial=1, final=2)
    for step in range(101):
        assert SCHEDULE.density(step) == pytest.approx(1.0 - 0.9 * SCHEDULE.progress(step), rel=1e-14)
        assert flat.progress(step) == SCHEDULE.progress(step)
    assert [SCHEDULE.progress(step) for step in (0, 10, 45, 80, 99)] == [0.0, 0.0, 0.875, 1.0, 1.0]
