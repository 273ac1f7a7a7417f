from __future__ import annotations

import pytest

from aerogel.train import progress
from aerogel.train.progress import shown_steps


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `progress` sees."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_is_a_line_every_few_seconds(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with shown_steps("movement", 100, 140, "lines") as shown:
        for step in range(101, 141):
            clock[0] += 0.5
            shown.update(step, 0.25, 0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "movement: step 110 of 140, density 0.500, loss 0.250, about 15 s remaining"
    assert len(lines) == 4


def test_a_short_run_is_silent(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with shown_steps("movement", 0, 9, "lines") as shown:
        for step in range(1, 10):
            clock[0] += 0.5
            shown.update(step, 0.25, 0.5)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with shown_steps("movement", 0, 4, True) as shown:
        shown.update(3, 0.25, 0.5)
    said = capsys.readouterr().err
    assert "movement" in said
    assert "3/4" in said


@pytest.mark.parametrize("mode", [False, True])
def test_without_lines_what_is_no_terminal_gets_nothing(
    clock: list[float], capsys: pytest.CaptureFixture[str], mode: bool
) -> None:
    with shown_steps("movement", 0, 4, mode) as shown:
        clock[0] += 100
        shown.update(3, 0.25, 0.5)
    assert capsys.readouterr().err == ""
