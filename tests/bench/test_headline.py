from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from aerogel.bench import headline
from aerogel.cli import main as aerogel


def test_all_models_are_made_before_one_measurement() -> None:
    found = headline.commands(Path("o"), "bert-base", 0.1, ["--threads", "2"])
    assert [command[0] for command in found] == ["synth", "export", "export", "synth", "export", "bench"]
    exported = [command[command.index("--out") + 1] for command in found if command[0] == "export"]
    assert [Path(file).name for file in exported] == ["dense.onnx", "csr.onnx", "bsr.onnx"]
    assert found[-1][1:6] == [*exported, "--threads", "2"]
    assert [command[command.index("--block") + 1] for command in found if command[0] == "synth"] == [
        "1x1",
        "4x1",
    ]
    # An export reads the checkpoint that the synth before it wrote.
    for command, before in zip(found[1:5], found[:4], strict=True):
        if before[0] == "synth":
            assert command[1] == before[before.index("--out") + 1]


@pytest.mark.parametrize("command", headline.commands(Path("nowhere"), "bert-none", 2.0, []))
def test_the_command_line_accepts_every_option(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert aerogel(command) == 2
    error = capsys.readouterr().err
    assert "unrecognized" not in error
    assert "required" not in error


def test_stops_at_the_first_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = []

    def fake(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command[3])
        return subprocess.CompletedProcess(command, 2 if command[3] == "export" else 0)

    monkeypatch.setattr(subprocess, "run", fake)
    assert headline.main(["--out", str(tmp_path)]) == 2
    assert ran == ["synth", "export"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--thread-count", "2"], "unrecognized arguments: --thread-count 2"),
        (["--rounds", "many"], "invalid int value: 'many'"),
        (["--threads", "0"], "--threads 0"),
    ],
)
def test_bad_bench_arguments_are_refused_before_the_work(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("began the work"))
    with pytest.raises(SystemExit, match="2"):
        headline.main(["--out", str(tmp_path), *words])
    assert message in capsys.readouterr().err
