from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel import checkpoint
from aerogel.errors import UsageError
from aerogel.train import run as module
from aerogel.train.methods import METHODS
from aerogel.train.processes import Processes
from aerogel.train.run import TrainConfig, train

Start = Callable[..., list[subprocess.Popen[str]]]
# Timeout in seconds; only a process that hangs takes this long, also on a busy machine.
LIMIT = 900

PROGRAM = """
import sys
from pathlib import Path
from aerogel.cli import main
sys.exit(main(["train", *sys.argv[1:]]))
"""


def words(config: TrainConfig) -> list[str]:
    """Command-line arguments for a configuration."""
    result = []
    for name in (
        "task",
        "out",
        "method",
        "model",
        "data",
        "density",
        "epochs",
        "batch",
        "max_length",
        "lr",
        "seed",
    ):
        result += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    result += ["--save-every", str(config.save_every)]
    result += ["--accumulate", str(config.accumulate)] if config.accumulate else []
    return [*result, "--threads", "1", "--device", "cpu"]


@pytest.fixture
def start(free_port: Callable[[], int]) -> Start:
    """Function that starts the processes of a run as torchrun does."""

    def begin(config: TrainConfig, count: int = 2) -> list[subprocess.Popen[str]]:
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        return [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *words(config)],
                env=os.environ
                | shared
                | {"RANK": str(index), "LOCAL_RANK": str(index), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]

    return begin


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit status, standard output and standard error of each process."""
    results = []
    for process in processes:
        out, err = process.communicate(timeout=LIMIT)
        results.append((process.returncode, out, err))
    return results


@pytest.fixture
def config(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], sentiment: Callable[..., Path]
) -> Callable[..., TrainConfig]:
    """Factory of configurations of 30 steps; the last batch of each epoch has 3 rows."""

    def make(out: str, **values: Any) -> TrainConfig:
        settings = {
            "task": "sst2", "model": str(tiny_checkpoint(density=1.0)), "data": sentiment(train=67), "epochs": 6,
            "method": "movement", "density": 0.25, "batch": 16, "max_length": 16, "lr": 1e-3, "threads": 1,
            "device": "cpu", "save_every": 7,
        }  # fmt: skip
        return TrainConfig(out=tmp_path / out, **settings | values)

    return make


def same_files(one: Path, two: Path) -> bool:
    names = (checkpoint.WEIGHTS_FILE, checkpoint.MASKS_FILE)
    return all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_two_processes_give_same_bytes_as_one(config: Callable[..., TrainConfig], start: Start) -> None:
    # Dropout depends on the micro-batch, not on the process that computes it.
    (status, out, err), (other, silent, quiet) = finish(start(config("two", accumulate=2)))
    assert (status, other, err, silent, quiet) == (0, 0, "", "", "")
    assert "accuracy" in out
    one = train(config("one", accumulate=2)).path
    assert same_files(config("two").out, one)
    assert sorted(path.name for path in one.parent.iterdir()) == [
        "one", "one.log.jsonl", "sentiment", "two", "two.log.jsonl",
    ]  # fmt: skip


def test_fewer_micro_batches_than_processes_are_rejected(
    config: Callable[..., TrainConfig], start: Start
) -> None:
    for status, _, err in finish(start(config("two", accumulate=1))):
        assert status == 2
        assert err == (
            "aerogel: error: accumulate 1: must be at least 2, the number of processes; raise it or drop it\n"
        )


@pytest.mark.parametrize("count", [2, 3])
def test_too_few_micro_batches_are_rejected_before_connecting(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A process that exits while others connect would make them report a lost connection instead."""
    monkeypatch.setattr(module, "Processes", lambda _: pytest.fail("it connects"))
    monkeypatch.setenv("WORLD_SIZE", str(count))
    with pytest.raises(UsageError, match=f"accumulate 1: must be at least {count}, the number of processes"):
        train(config("two", accumulate=1))


@pytest.mark.parametrize("index", [0, 1])
def test_two_killed_processes_resume_to_same_bytes(
    config: Callable[..., TrainConfig], start: Start, index: int
) -> None:
    run = config("killed", save_every=3, epochs=20)
    processes = start(run)
    deadline = time.monotonic() + LIMIT
    while not run.state_path.exists():
        assert all(process.poll() is None for process in processes), "it exited before it saved its state"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(random.Random(index).random() / 4)
    processes[index].kill()
    results = finish(processes)
    assert results[index][0] == -signal.SIGKILL
    # The other process does not hang, and reports the reason in one line.
    assert results[1 - index][0] == 2
    assert re.search(
        rf"^aerogel: error: process {1 - index} lost the other processes .* to resume\n",
        results[1 - index][2],
    )
    assert results[1 - index][2].count("aerogel: error") == 1
    assert run.state_path.exists()

    assert [status for status, *_ in finish(start(run))] == [0, 0]
    assert same_files(run.out, train(config("one", accumulate=2, epochs=20)).path)
    assert not run.state_path.exists()


def test_error_in_first_process_stops_all(config: Callable[..., TrainConfig], start: Start) -> None:
    run = config("taken")
    run.out.mkdir()
    (run.out / "thesis.tex").touch()
    first, second = finish(start(run))
    assert (first[0], second[0]) == (2, 2)
    assert first[2].startswith("aerogel: error: ")
    assert "is not an Aerogel checkpoint" in first[2]
    assert "process 1 stopped because the first process failed: " in second[2]
    assert first[2].count("\n") == second[2].count("\n") == 1


def test_processes_that_cannot_connect_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match=r"cannot connect \(.*RANK.*\); start them with torchrun"):
        Processes("cpu")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE='two': must be a number"):
        Processes("cpu")
    monkeypatch.setenv("WORLD_SIZE", "1")
    alone = Processes("cpu")
    assert (alone.count, alone.first, alone.on_first(lambda: 7)) == (1, True, 7)


ALL_METHODS = """
import json, os, sys
from pathlib import Path
from aerogel.train.run import TrainConfig, train
for port, values in json.loads(sys.argv[1]):
    os.environ["MASTER_PORT"] = str(port)
    train(TrainConfig(**{**values, "out": Path(values["out"]), "data": Path(values["data"])}))
"""


def test_every_method_gives_same_bytes_in_two_processes(
    config: Callable[..., TrainConfig], free_port: Callable[[], int]
) -> None:
    """Covers states made of gradients, random gates and density controllers."""
    names = [name for name in METHODS.names() if METHODS.get(name).prunes]
    # Scores must move far in the few steps of a test.
    rates = {name: 0.5 if METHODS.get(name).density_is_outcome else None for name in names}
    runs = {
        name: config(name, method=name, epochs=6, warmup=1.0, score_lr=rates[name], accumulate=2)
        for name in names
    }
    numbers = [free_port() for _ in names]
    given = [
        (number, {"out": str(run.out), "data": str(run.data), "task": run.task, "progress": False}
         | {k: getattr(run, k) for k in (
             "method", "model", "density", "epochs", "batch", "max_length", "lr", "threads", "device", "warmup",
             "score_lr", "accumulate")})
        for number, run in zip(numbers, runs.values(), strict=True)
    ]  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ALL_METHODS, json.dumps(given)],
            env=os.environ | {"WORLD_SIZE": "2", "RANK": str(index), "MASTER_ADDR": "127.0.0.1"}
            | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in (0, 1)
    ]  # fmt: skip
    assert [(status, err[-500:]) for status, _, err in finish(processes)] == [(0, "")] * 2
    for name, run in runs.items():
        one = train(dataclasses.replace(run, out=run.out.with_name(f"{name}-one"))).path
        assert same_files(run.out, one), name
