from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aerogel import checkpoint
from aerogel.errors import CheckpointError, UsageError
from aerogel.system.atomic_io import atomic_file, claimed
from aerogel.train import run as run_module
from aerogel.train.run import TrainConfig, train


def events(config: TrainConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in config.log_path.read_text().splitlines()]


def interrupt(run: TrainConfig, stop_at: Callable[[int], list[int]]) -> None:
    """Start a run and interrupt it at step 7."""
    stop_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(run)


def test_killed_run_resumes_to_same_bytes(config: Callable[..., TrainConfig]) -> None:
    total = 160
    run = config("killed", epochs=40, save_every=5)
    command = (
        "import sys; from pathlib import Path; from aerogel.train.run import *;"
        "train(TrainConfig(**{**eval(sys.argv[1]), 'out': Path(sys.argv[2]), 'data': Path(sys.argv[3])}))"
    )
    values = {k: v for k, v in vars(run).items() if k not in ("out", "data")}
    process = subprocess.Popen([sys.executable, "-c", command, repr(values), str(run.out), str(run.data)])
    deadline = time.monotonic() + 900
    while not run.state_path.exists():
        assert process.poll() is None, "it exited before it saved its state"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not run.out.exists()
    done = torch.load(run.state_path, weights_only=True)["step"]
    assert 0 < done < total

    resumed = train(run).path
    assert not run.state_path.exists()
    whole = config("whole", epochs=40, save_every=5)
    straight = train(whole).path
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.MASKS_FILE):
        assert (resumed / name).read_bytes() == (straight / name).read_bytes()
    for log in (one := events(run), two := events(whole)):
        for event in log:
            event.pop("seconds_per_step", None)
    assert one == two


def test_resumed_run_executes_only_remaining_steps(
    config: Callable[..., TrainConfig], stop_at: Callable[[int], list[int]]
) -> None:
    run = config(save_every=5)
    interrupt(run, stop_at)
    seen = stop_at(99)
    train(run)
    assert seen == list(range(5, 12))


def test_changed_settings_need_restart(
    config: Callable[..., TrainConfig], stop_at: Callable[[int], list[int]]
) -> None:
    interrupt(config(save_every=5), stop_at)
    seen = stop_at(99)
    with pytest.raises(
        UsageError, match=r"out.state.pt is the state of a run with lr 0.001, not 0.002; .*use restart"
    ):
        train(config(lr=2e-3))
    same = config()
    (same.data / "dev.tsv").write_text("sentence\tlabel\ngood\t1\n")
    with pytest.raises(UsageError, match="data evaluation"):
        train(same)
    assert not seen
    train(config(lr=2e-3, restart=True))
    assert seen == list(range(12))


@pytest.mark.parametrize("values", [{}, {"restart": True}, {"log": "other.jsonl"}])
def test_second_run_does_not_touch_files_of_running_one(
    config: Callable[..., TrainConfig],
    stop_at: Callable[[int], list[int]],
    tmp_path: Path,
    values: dict[str, Any],
) -> None:
    run = config(save_every=5)
    interrupt(run, stop_at)
    before = run.state_path.read_bytes()
    values = {name: tmp_path / value if name == "log" else value for name, value in values.items()}
    with claimed(run.out, "out"), atomic_file(run.state_path) as saving:
        with pytest.raises(UsageError, match=r"out .*out: another run is writing it"):
            train(config(**values))
        assert saving.exists()
        assert run.state_path.read_bytes() == before
        saving.write_bytes(before)
    seen = stop_at(99)
    train(run)
    assert seen == list(range(5, 12))


def test_two_runs_cannot_share_a_log(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    with (
        claimed(config().log_path, "log"),
        pytest.raises(UsageError, match=r"log .*out.log.jsonl: another"),
    ):
        train(config("second", log=config().log_path))
    with (
        claimed(tmp_path / "log.jsonl", "log"),
        pytest.raises(UsageError, match=r"log .*log.jsonl: another run"),
    ):
        train(config(log=tmp_path / "log.jsonl"))
    assert not (tmp_path / "log.jsonl").exists()


def test_run_does_not_resume_with_other_model_or_versions(
    config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: Callable[[int], list[int]],
) -> None:
    versions = run_module._versions()
    own = Path(shutil.copytree(config().model, tmp_path / "own"))
    run = config(model=str(own), save_every=5)
    interrupt(run, stop_at)
    stop_at(99)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        content = (own / name).read_bytes()
        # A trailing space changes the hash but not the content.
        (own / name).write_bytes(content + b" ")
        with pytest.raises(UsageError, match=rf"state of a run with model {name} '.*', not .*use restart"):
            train(run)
        (own / name).write_bytes(content)
    monkeypatch.setattr(run_module, "_versions", lambda: versions | {"numpy": "0"})
    with pytest.raises(UsageError, match=r"with version numpy '.*', not '0'"):
        train(run)
    monkeypatch.setattr(run_module, "_versions", lambda: versions)
    train(run)


def test_invalid_state_file_is_rejected(config: Callable[..., TrainConfig]) -> None:
    run = config()
    run.state_path.write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="use restart to start over"):
        train(run)
    assert not run.out.exists()


def test_resumed_run_without_log_starts_new_log(
    config: Callable[..., TrainConfig], stop_at: Callable[[int], list[int]]
) -> None:
    run = config(save_every=5)
    interrupt(run, stop_at)
    run.log_path.unlink()
    stop_at(99)
    train(run)
    assert [e["event"] for e in events(run)] == ["start", "step", "end"]
