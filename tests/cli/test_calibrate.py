from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel import cli
from aerogel.cost import cache, calibrate, check
from aerogel.cost.machine import this_machine
from aerogel.cost.model import CostModel
from aerogel.system.cache import CACHE_VARIABLE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def measured(
    fake_cost_model: Callable[..., CostModel], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[int]]:
    """Replace the measurement; returns the list of thread counts that it was called with."""
    asked: list[int] = []

    def pretend(busy: str) -> list[int]:
        def made(threads: int, _: object) -> tuple[CostModel, str]:
            asked.append(threads)
            return fake_cost_model(machine=this_machine(threads), slot=1e-9, dense=(0, 0, 0, 1e-9)), busy

        monkeypatch.setattr(calibrate, "calibrate", made)
        return asked

    return pretend


def test_cost_model_is_printed_and_saved(
    folder: Path, measured: Callable[[str], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = measured("")
    assert cli.main(["calibrate", "--threads", "2"]) == 0
    (file,) = folder.iterdir()
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"saved to {file}" in printed.out
    assert "2 threads" in printed.out
    assert isinstance(cache.find(2), CostModel)
    assert cli.main(["calibrate", "--threads", "2"]) == 0  # measured again
    assert asked == [2, 2]


def test_busy_machine_gives_a_warning(
    folder: Path, measured: Callable[[str], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    measured("other programs took 9% of the time")
    assert cli.main(["calibrate"]) == 0
    assert capsys.readouterr().err == "aerogel: warning: other programs took 9% of the time\n"
    assert folder.is_dir()


def test_check_uses_the_saved_cost_model(
    folder: Path,
    measured: Callable[[str], list[int]],
    tiny_checkpoint: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = measured("")
    monkeypatch.setattr(check, "_SYNTHETIC", ())
    monkeypatch.setattr(check, "_DENSE", ((16, 16),))
    path = str(tiny_checkpoint("bert", num_hidden_layers=1))
    assert cli.main(["calibrate", "--check", path, "--seq", "4"]) == 0
    assert cli.main(["calibrate", "--check", "--seq", "4"]) == 0
    assert asked == [1]
    assert "checkpoint, 4 matrices" in capsys.readouterr().out
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "0"], "--threads"),
        (["--check", "--seq", "0"], "--seq 0: must be from 1 to 4096"),
        (["--check", "--seq", "9999"], "--seq 9999: must be from 1 to 4096"),
        (["--check", "nowhere"], "nowhere"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_invalid_input_gives_one_line_and_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["calibrate", *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("aerogel: error: ")
    assert message in printed
    assert printed.count("\n") == 1
