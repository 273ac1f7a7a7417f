from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from aerogel.cli import train as verb
from aerogel.cli._recipe import config_of
from aerogel.errors import UsageError
from aerogel.sweep.plan import Sweep, plan, read_sweep
from aerogel.train.config import TrainConfig

TEXT = """
task = "synthetic"
seed = [0, 1]
interpolate_density = [0.1, 0.03]
metric = "accuracy"

[[grid]]
method = "magnitude"
density = [0.3, 0.1]

[[grid]]
method = "movement"
density = 0.1
block = ["1x1", "4x1"]
epochs = 5
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    return path


def test_plan_has_every_combination_once(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, TEXT))
    assert (sweep.interpolate_density, sweep.metric) == ((0.1, 0.03), "accuracy")
    runs = plan(sweep, tmp_path)
    found = [
        (r.config.method, r.config.density, r.config.block, r.config.seed, r.config.epochs) for r in runs
    ]
    assert found == [
        *(("magnitude", density, (1, 1), seed, 3) for seed in (0, 1) for density in (0.3, 0.1)),
        *(("movement", 0.1, block, seed, 5) for seed in (0, 1) for block in ((1, 1), (4, 1))),
    ]
    assert len({run.config.out for run in runs}) == 8
    assert all(run.config.out == tmp_path / "runs" / run.name for run in runs)
    assert runs[0].swept == {"method": "magnitude", "seed": 0, "density": 0.3}
    assert runs[0].name.startswith("magnitude-density=0.3-seed=0-")


@pytest.mark.parametrize("left", ["", ".json", ".log.jsonl", ".state.pt"])
def test_a_run_keeps_its_name_when_more_is_swept(tmp_path: Path, left: str) -> None:
    (first,) = plan(Sweep({"task": "synthetic", "method": "rpp", "density": 0.05}, [{}]), tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{first.name}{left}").touch()
    (tmp_path / "runs" / "notes.txt").touch()
    more = Sweep({"task": "synthetic", "method": "rpp", "density": 0.05, "seed": [0, 1]}, [{}])
    names = [run.name for run in plan(more, tmp_path)]
    assert names[0] == first.name
    assert names[1].startswith("rpp-seed=1-")


def test_dense_runs_ignore_pruning_settings_and_run_once(tmp_path: Path) -> None:
    settings = {
        "task": "synthetic", "method": ["dense", "soft-movement"], "density": [0.3, 0.1], "block": (4, 1),
        "scope": "global", "score_lr": 0.1, "initial_warmup": 0.0, "final_warmup": 1.0, "final_epochs": 2,
        "option lambda": None, "seed": [0, 1], "lr": [1e-3, 1e-4],
    }  # fmt: skip
    runs = plan(Sweep(settings, [{}]), tmp_path)
    dense = [run for run in runs if run.config.method == "dense"]
    assert [(run.config.seed, run.config.lr) for run in dense] == [(0, 1e-3), (0, 1e-4), (1, 1e-3), (1, 1e-4)]
    assert all(run.swept.keys() == {"method", "seed", "lr"} for run in dense)
    plain = TrainConfig(task="synthetic", out=tmp_path)
    for run in dense:
        assert run.config == replace(
            plain, out=run.config.out, seed=run.config.seed, lr=run.config.lr, progress=False
        )
    assert len(runs) == 4 + 8
    assert all(run.config.final_epochs == 2 for run in runs if run not in dense)

    # The same holds for a dense run in its own grid. Without other methods a dense run keeps its settings.
    grids = [{"method": "dense"}, {"method": "magnitude"}, {"method": "dense", "density": 0.2}]
    runs = plan(Sweep({"task": "synthetic", "density": 0.5}, grids), tmp_path)
    assert [(run.config.method, run.config.density) for run in runs] == [("dense", 1.0), ("magnitude", 0.5)]
    (alone,) = plan(Sweep({"task": "synthetic", "density": 0.5}, [{}]), tmp_path)
    assert alone.config.density == 0.5


def test_options_are_swept_and_merged(tmp_path: Path) -> None:
    text = "task = 'synthetic'\n[options]\neps = 1e-9\n[[grid]]\nmethod='rpp'\noptions.gamma = [1e-3, 1e-4]\n"
    runs = plan(read_sweep(written(tmp_path, text)), tmp_path)
    assert [run.config.options for run in runs] == [
        {"eps": 1e-9, "gamma": 1e-3},
        {"eps": 1e-9, "gamma": 1e-4},
    ]
    assert [run.swept["option gamma"] for run in runs] == [1e-3, 1e-4]
    assert all(run.swept.keys() == {"method", "option gamma"} for run in runs)


def test_command_reproduces_the_run(tmp_path: Path) -> None:
    text = """
        task = "sst2"
        data = "some where/-x"
        method = "movement"
        block = "4x1"
        density = 0.1
        freeze_embeddings = false
        gradient_checkpointing = true
        train_rows = 10
        options.lambda = 3
    """
    (run,) = plan(read_sweep(written(tmp_path, text)), tmp_path)
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    made = config_of(TrainConfig, parser.parse_args(run.command()[1:]))
    assert made == replace(run.config, options={"lambda": "3"}, progress=True)


def test_identity_changes_with_settings_and_input_files(tmp_path: Path) -> None:
    def identity(lr: float, folder: str = "data") -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        given = {"task": "sst2", "lr": lr} | {
            "data": {"data": tmp_path / "data"},
            "mask": {"option mask": str(tmp_path / "mask")},
        }[folder]
        return plan(Sweep(given, [{}]), tmp_path)[0].identity

    first = identity(1e-3)
    assert identity(1e-3) == first
    assert identity(1e-4) != first
    (tmp_path / "data" / "train.tsv").write_text("a")
    second = identity(1e-3)
    assert second != first
    # Files that the sweep writes are not its inputs.
    out = tmp_path / "data" / "sweep"
    inside = plan(Sweep({"task": "sst2", "data": tmp_path / "data"}, [{}]), out)[0].identity
    (out / "runs").mkdir(parents=True)
    (out / "runs" / "x.log.jsonl").touch()
    assert plan(Sweep({"task": "sst2", "data": tmp_path / "data"}, [{}]), out)[0].identity == inside
    shutil.rmtree(out)
    os.utime(tmp_path / "data" / "train.tsv", (1, 1))
    assert identity(1e-3) != second
    first = identity(1e-3, "mask")
    (tmp_path / "mask" / "masks.safetensors").write_text("a")
    assert identity(1e-3, "mask") != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method = 'magnitude'", "--task is required"),
        ("task = 's'\ndensity = []", "density is an empty list"),
        ("task = 's'\ndensity = [0.1, '0.2']", r"sweep.toml: density must be a number, not '0.2'"),
        ("task = 's'\ndensity = [2.0]", "density 2: must be above 0 and at most 1"),
        ("task = 's'\nseed = [1, 1]", "twice"),
        ("task = 's'\nout = 'x'", "unknown key 'out'"),
        ("task = 's'\n[[grid]]\nmetod = 'x'", r"unknown key 'metod'; did you mean method\?"),
        ("task = 's'\n[grid]\nmethod = 'x'", r"write each as \[\[grid\]\]"),
        ("task = 's'\noptions.gamma = [[1]]", "must be one value"),
        ("task = 's'\ninterpolate_density = ['x']", "interpolate_density must be a number"),
        (
            f"task = 's'\nseed = {list(range(200))}\nepochs = {list(range(1, 101))}",
            "20000 runs; at most 1000 are allowed",
        ),
    ],
)
def test_invalid_sweeps_are_rejected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(read_sweep(written(tmp_path, text)), tmp_path)


def test_names_are_safe_and_short(tmp_path: Path) -> None:
    runs = plan(Sweep({"task": "s", "model": ["../../a b", "x" * 300]}, [{}]), tmp_path)
    for run in runs:
        assert "/" not in run.name
        assert " " not in run.name
        assert len(run.name) <= 90
