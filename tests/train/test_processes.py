from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel import checkpoint
from aerogel.train.run import TrainConfig, train

PROGRAM = """
import sys
from pathlib import Path
from aerogel.cli import main
sys.exit(main(["train", *sys.argv[1:]]))
"""


def words(config: TrainConfig) -> list[str]:
    """The command line of a configuration."""
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
    result += ["--save-every", str(config.save_every), "--accumulate", str(config.accumulate)]
    return [*result, "--threads", "1", "--device", "cpu"]


def start(config: TrainConfig, count: int = 2, **environment: str) -> list[subprocess.Popen[str]]:
    """Start the processes of a run as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words(config)],
            env=os.environ
            | {"WORLD_SIZE": str(count), "RANK": str(index), "LOCAL_RANK": str(index), "OMP_NUM_THREADS": "1"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each."""
    found = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        found.append((process.returncode, out, err))
    return found


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


def test_two_processes_do_to_the_bit_what_one_does_in_two_goes(config: Callable[..., TrainConfig]) -> None:
    # With dropout: it depends on the part of the batch, not on who computes it.
    (status, out, err), (other, silent, quiet) = finish(start(config("two")))
    assert (status, other, err, silent, quiet) == (0, 0, "", "", "")
    assert "accuracy" in out
    one = train(config("one", accumulate=2)).path
    assert same_files(config("two").out, one)
    assert sorted(path.name for path in one.parent.iterdir()) == [
        "one", "one.log.jsonl", "sentiment", "two", "two.log.jsonl",
    ]  # fmt: skip
