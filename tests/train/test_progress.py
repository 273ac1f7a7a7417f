from __future__ import annotations

import pytest

from aerogel.train import progress
from aerogel.train.progress import show_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Fake clock of the `progress` module."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_are_printed_without_terminal(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with show_progress("movement", 100, 140, "lines") as display:
        for step in range(101, 141):
            clock[0] += 0.5
            display.update(step, 0.25, 0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "movement: step 110 of 140, density 0.500, loss 0.250, about 15 s remaining"
    assert len(lines) == 4


def test_short_run_prints_no_lines(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("movement", 0, 9, "lines") as display:
        for step in range(1, 10):
            clock[0] += 0.5
            display.update(step, 0.25, 0.5)
    assert capsys.readouterr().err == ""


def test_terminal_shows_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress("movement", 0, 4, True) as display:
        display.update(3, 0.25, 0.5)
    output = capsys.readouterr().err
    assert "movement" in output
    assert "3/4" in output


@pytest.mark.parametrize("mode", [False, True])
def test_nothing_is_printed_without_terminal_by_default(
    clock: list[float], capsys: pytest.CaptureFixture[str], mode: bool
) -> None:
    with show_progress("movement", 0, 4, mode) as display:
        clock[0] += 100
        display.update(3, 0.25, 0.5)
    assert capsys.readouterr().err == ""
