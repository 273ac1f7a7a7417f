from __future__ import annotations

from pathlib import Path

import pytest

from aerogel import checkpoint
from aerogel.cli import main


def test_synth_writes_a_checkpoint_and_prints_its_density(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "[bold]c"
    assert main(["synth", "--arch", "bert-tiny", "--block", "4x1", "--seed", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{out}: bert-tiny, ")
    assert "12 matrices at density 0.1000 in 4x1 blocks" in printed.out
    assert printed.err == ""
    assert checkpoint.load(out).record.seed == 5


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--arch", "nothing"], "unknown --arch 'nothing'; known: bert-base"),
        (["--arch", "bert-tiny", "--density", "1.5"], "density 1.5: must be above 0 and at most 1"),
        (["--arch", "bert-tiny", "--seed", "-1"], "--seed -1 is out of range; give 0 to 4294967295"),
        (["--arch", "bert-tiny", "--seed", str(2**64)], "is out of range; give 0 to 4294967295"),
        (["--arch", "bert-tiny", "--block", "7x1"], "block 7x1 does not divide"),
        (["--arch", "bert-tiny", "--block", "big"], "'big' is not ROWSxCOLS"),
        (["--arch", "bert-tiny", "--scope", "wide"], "invalid choice: 'wide'"),
    ],
)
def test_invalid_input_gives_one_line_and_writes_nothing(
    tmp_path: Path, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", *argv, "--out", str(tmp_path / "c")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_a_checkpoint_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert main(["synth", "--arch", "bert-tiny", "--out", str(tmp_path)]) == 2
    assert "is not an Aerogel checkpoint" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]
