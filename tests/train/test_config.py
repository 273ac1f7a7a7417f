from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aerogel.errors import UsageError
from aerogel.train.config import TrainConfig


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epochs": 0}, "--epochs 0"),
        ({"batch": -1}, "--batch -1"),
        ({"train_rows": 0}, "--train-rows 0"),
        ({"save_every": 0}, "--save-every 0"),
        ({"max_length": 0}, "--max-length 0"),
        ({"lr": 0.0}, "--lr 0.0"),
        ({"lr": float("nan")}, "--lr nan"),
        ({"score_lr": float("inf")}, "--score-lr inf"),
        (
            {"tensorboard": Path("out/board")},
            "--tensorboard out/board: must be outside --out",
        ),
        ({"warmup": -0.1}, "warmup -0.1"),
        ({"warmup": 1.5}, "warmup 1.5: must be a fraction below 1 or a whole number"),
        ({"initial_warmup": float("nan")}, "--initial-warmup nan"),
        ({"initial_warmup": -1.0}, "--initial-warmup -1"),
        ({"final_warmup": float("inf")}, "--final-warmup inf"),
        ({"seed": -1}, "--seed -1"),
        ({"threads": 0}, "--threads 0"),
        ({"threads": 10**14}, "--threads 100000000000000 is out of range"),
        ({"device": "tpu"}, "--device tpu"),
        ({"scope": "layer"}, "--scope layer"),
        ({"density": 0.0}, "--density 0: must be above 0 and at most 1"),
        ({"density": 1.5}, "--density 1.5: must be above 0 and at most 1"),
        ({"density": float("nan")}, "--density nan: must be above 0 and at most 1"),
        ({"block": (0, 1)}, "block 0x1"),
    ],
)
def test_error_of_value_out_of_range_names_flag(value: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(task="sst2", out=Path("out"), **value)


def test_state_and_log_are_next_to_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "runs")
    for out in ("a.b", "../runs/a.b", "a.b/c/.."):
        config = TrainConfig(task="sst2", out=Path(out))
        assert config.state_path == tmp_path / "runs" / "a.b.state.pt"
        assert config.log_path == tmp_path / "runs" / "a.b.log.jsonl"
    assert TrainConfig(task="sst2", out=Path()).state_path == tmp_path / "runs.state.pt"
    assert TrainConfig(task="sst2", out=Path("a"), log=Path("x")).log_path == Path("x")


@pytest.mark.parametrize("log", ["run", "run/log", "run/../run/deep/log", "link/log", "."])
def test_log_inside_checkpoint_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("run")
    with pytest.raises(UsageError, match=r"--log .*: must be outside --out"):
        TrainConfig(task="sst2", out=Path("run"), log=Path(log))
    with pytest.raises(UsageError, match=r"--log .*: the run saves its state"):
        TrainConfig(task="sst2", out=Path("run"), log=Path("run.state.pt"))
    TrainConfig(task="sst2", out=Path("run"), log=Path("run.log"))


def test_settings_exclude_output_options() -> None:
    one = TrainConfig(task="sst2", out=Path("a"), save_every=1, restart=True, progress=False, eval_every=2)
    assert one.settings() == TrainConfig(task="sst2", out=Path("b")).settings()
    assert one.settings() != TrainConfig(task="sst2", out=Path("b"), seed=1).settings()
