from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel.cli import main
from aerogel.sweep import execute
from aerogel.sweep.plan import Sweep, plan
from aerogel.system import cores


@pytest.fixture
def words(tmp_path: Path, tiny_checkpoint: Callable[..., Path], sentiment: Callable[..., Path]) -> list[str]:
    """Arguments of a sweep whose runs take about a second each."""
    given = ["sweep", "--out", str(tmp_path / "out"), "--task", "sst2", "--data", str(sentiment())]
    given += ["--model", str(tiny_checkpoint(density=1.0)), "--batch", "16", "--max-length", "16"]
    return [*given, "--threads", "1", "--device", "cpu", "--epochs", "3"]


def test_sweep_runs_saves_and_reuses_results(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    # 5x1 divides no matrix, so one of the two runs fails.
    given = [
        *words,
        "--method",
        "magnitude",
        "--density",
        "0.5",
        "--block",
        "1x1,5x1",
        "--interpolate-density",
        "0.5",
    ]
    capsys.readouterr()
    assert main([*given, "--jobs", "2", "--discard-weights"]) == 1
    printed, said = capsys.readouterr()
    assert "0.5000" in printed
    assert "block 5x1 does not divide" in said
    document = json.loads((out / "results.json").read_text())
    done, failed = document["runs"]
    assert done["density"] == 0.5
    assert 0 <= done["metrics"]["accuracy"] <= 1
    assert failed["error"].startswith("block 5x1 does not divide")
    assert "\n" not in failed["error"]
    assert not (out / "runs" / done["name"]).exists()
    assert "1 runs failed" in (out / "results.md").read_text()
    assert (out / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "pareto.svg").read_text()

    # The finished run is not repeated, and the command in the document repeats it.
    stamp = (out / "runs" / f"{done['name']}.json").stat().st_mtime_ns
    assert main([*words, "--method", "magnitude", "--density", "0.5", "--block", "1x1,5x1"]) == 1
    assert (out / "runs" / f"{done['name']}.json").stat().st_mtime_ns == stamp
    assert main(shlex.split(done["command"])[1:]) == 0
    capsys.readouterr()
    again = json.loads((out / "runs" / done["name"] / "aerogel.json").read_text())
    assert again["metrics"] == done["metrics"]

    # Saved results are validated.
    (out / "runs" / f"{done['name']}.json").write_text('{"schema": 1, "identity": "x"}')
    assert main(given) == 2
    assert "is not a valid result of this run" in capsys.readouterr().err


# A shell that starts the tests in the background ignores SIGINT, and the sweep would inherit that.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from aerogel.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(words: list[str]) -> subprocess.Popen[str]:
    """Start a sweep in its own process group."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_stopped_sweep_terminates_its_runs_and_resumes_later(tmp_path: Path, words: list[str]) -> None:
    out = tmp_path / "out"
    given = [*words, "--method", "magnitude", "--density", "0.5", "--seed", "0,1", "--jobs", "2"]
    given += ["--epochs", "60", "--save-every", "10"]
    for asked, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        sweep = start(given)
        deadline = time.monotonic() + 900
        states: dict[Path, int] = {}
        # Wait until both runs have saved a newer state than at the last stop.
        before = {file: file.stat().st_mtime_ns for file in (out / "runs").glob("*.state.pt")}
        while sum(before.get(file) != at for file, at in states.items()) < 2:
            assert sweep.poll() is None, sweep.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
            states = {
                file: file.stat().st_mtime_ns for file in (out / "runs").glob("*.state.pt") if file.exists()
            }
        sweep.send_signal(asked)
        _, said = sweep.communicate(timeout=900)
        assert sweep.returncode == status
        assert said == f"aerogel: stopped by {asked.name}; run the same command to continue\n"
        with pytest.raises(ProcessLookupError):
            os.killpg(sweep.pid, 0)
        errors = [run["error"] for run in json.loads((out / "results.json").read_text())["runs"]]
        assert errors == ["stopped before the end; run the sweep again to continue"] * 2
        # No partial files of the sweep remain; those of a training are removed when it starts again.
        assert not list(out.glob(".*.part"))

    last = start(given)
    _, said = last.communicate(timeout=900)
    assert (last.returncode, said.count("accuracy")) == (0, 2)
    logs = [file.read_text() for file in (out / "runs").glob("*.log.jsonl")]
    assert [(log.count('"start"'), log.count('"end"')) for log in logs] == [(1, 1)] * 2
    assert not list((out / "runs").glob("*.state.pt"))
    assert not list(out.rglob(".*.part"))


def test_training_that_does_not_terminate_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended process does not handle SIGTERM."""
    monkeypatch.setattr(execute, "_GRACE", 0.2)
    stop = threading.Event()
    begun: list[subprocess.Popen[str]] = []

    class Suspended(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self.send_signal(signal.SIGSTOP)
            # Wait, as of two pending signals the system would deliver SIGTERM first.
            os.waitid(os.P_PID, self.pid, os.WSTOPPED)
            begun.append(self)
            stop.set()

    monkeypatch.setattr(subprocess, "Popen", Suspended)
    runs = plan(Sweep({"task": "synthetic", "seed": [0, 1]}, [{}]), tmp_path)
    outcomes = execute.execute(runs, stop=stop)
    assert [process.returncode for process in begun] == [-signal.SIGKILL]
    assert {outcome.error for outcome in outcomes} == {
        "stopped before the end; run the sweep again to continue"
    }


def test_flags_override_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        "task = 'synthetic'\nlr = 1e-3\n[[grid]]\nmethod = 'movement'\ndensity = [0.3, 0.1]\nlr = 2e-3\n"
    )
    given = ["sweep", "--config", str(file), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*given, "--lr", "5e-3", "--seed", "0,1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all("--lr=0.005" in line and "--method=movement" in line for line in lines)
    assert main([*given, "--method", "l0", "--option", "lambda=1,2"]) == 0
    assert [line.count("--option=lambda=") for line in capsys.readouterr().out.splitlines()] == [1] * 4
    assert main([*given, "--option", "lambda=1"]) == 2
    assert "method movement has no such option" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config", "none.toml"], "none.toml cannot be read"),
        ([], "--task is required"),
        (["--task", "rte", "--jobs", "0"], "--jobs 0"),
        (["--task", "rte", "--density", "0.1,x"], "'x' in '0.1,x': must be a number"),
        (["--task", "rte", "--density", "0"], "--density 0: must be above 0"),
        (["--task", "rte", "--block", "4x1,4"], "must be a block in quotes"),
        (
            ["--task", "rte", "--interpolate-density", "1.5"],
            "--interpolate-density 1.5: must be above 0 and at most 1",
        ),
        (["--task", "rte", "--compile", "maybe"], "'maybe' in 'maybe': must be true or false"),
        (
            ["--task", "rte", "--method", "l0,nip", "--option", "lambda=1,2"],
            "give each method its own [[grid]]",
        ),
    ],
)
def test_invalid_input_gives_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "--out", "out", *more]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["results.md", "results.json", "pareto.svg"])
def test_files_not_written_by_a_sweep_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_text("mine")
    assert main(["sweep", "--task", "synthetic", "--method", "dense", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"aerogel: error: {tmp_path / name} was not written by a sweep and would be overwritten; choose another --out\n"
    )
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_parallel_runs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_allowed", lambda: set(range(8)))
    monkeypatch.setattr(cores, "_quota", lambda _: 6.0)
    monkeypatch.setattr(cores, "_own", {"OMP_NUM_THREADS"})
    # The variable was set by this process, not by the user.
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    found = execute._environment(3)
    assert (found["OMP_NUM_THREADS"], found["RAYON_NUM_THREADS"]) == ("2", "2")
    assert execute._environment(1)["OMP_NUM_THREADS"] == "6"
    monkeypatch.setattr(cores, "_own", set())
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert execute._environment(3)["OMP_NUM_THREADS"] == "5"
