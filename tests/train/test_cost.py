from __future__ import annotations

import json
from pathlib import Path

import pytest

from aerogel.train.cost import main, summary


def test_ratios_are_computed_per_round() -> None:
    # The machine slows down by half after the second round; the method always takes a quarter longer.
    seconds = {"dense": [1.0, 1.0, 2.0, 2.0], "movement": [1.25, 1.25, 2.5, 4.0]}
    dense, movement = summary(seconds, {"dense": 2.0, "movement": 9.0})
    assert (dense["milliseconds"], dense["ratio"]) == (1500.0, 1.0)
    assert movement == {
        "method": "movement", "milliseconds": 1875.0, "ratio": 1.25, "low": 1.25, "high": 1.4375, "mean_ratio": 1.5,
        "last_milliseconds": 9000.0,
    }  # fmt: skip


def test_prints_table_and_writes_all_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--methods", "movement", "--hidden", "64", "--layers", "1", "--batch", "2", "--length", "8"]
    assert main([*words, "--steps", "3", "--json", str(tmp_path / "cost.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["dense", "movement"]
    document = json.loads((tmp_path / "cost.json").read_text())
    assert {name: len(times) for name, times in document["seconds"].items()} == {"dense": 3, "movement": 3}
    assert document["last"].keys() == {"dense", "movement"}
    assert document["summary"][0]["ratio"] == 1.0


def test_bad_arguments_give_one_line_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--methods", "movment"]) == 2
    assert "did you mean movement?" in capsys.readouterr().err
    assert main(["--batch", "0"]) == 2
    assert capsys.readouterr().err == "aerogel: error: --batch 0: must be at least 1\n"
    assert main(["--steps", "0"]) == 2
