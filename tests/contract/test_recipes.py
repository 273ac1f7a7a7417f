"""Every recipe is a valid configuration and runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel.data.tasks import TASKS
from aerogel.sweep.plan import plan, read_sweep
from aerogel.system.options import read_options
from aerogel.system.toml_config import read_recipe
from aerogel.train.config import TrainConfig
from aerogel.train.methods import METHODS
from aerogel.train.pretraining.config import PretrainConfig
from aerogel.train.pretraining.run import pretrain
from aerogel.train.run import train

FOLDER = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
PRETRAINING = [name for name in NAMES if name.endswith("-pretrain")]
RECIPES = [name for name in NAMES if name not in PRETRAINING]


def write_data(folder: Path, task: str) -> Path:
    """Write a few rows of a task in the layout of its published files."""
    folder.mkdir()
    pairs = [("the film is good", "it was good"), ("the film is bad", "it was good")] * 2
    if task == "squad":
        paragraph = {
            "context": "the film was good and not bad",
            "qas": [
                {"id": str(n), "question": "is it good", "answers": [{"text": "good", "answer_start": 13}]}
                for n in range(4)
            ],
        }
        document = {"version": "1.1", "data": [{"title": "film", "paragraphs": [paragraph]}]}
        for name in ("train-v1.1.json", "dev-v1.1.json"):
            (folder / name).write_text(json.dumps(document))
        return folder
    header, labels, names = {
        "mnli": (
            "sentence1\tsentence2\tgold_label",
            ("entailment", "contradiction"),
            ("dev_matched", "dev_mismatched"),
        ),
        "qqp": ("question1\tquestion2\tis_duplicate", ("1", "0"), ("dev",)),
    }[task]
    rows = [header, *("\t".join((*pair, labels[n % 2])) for n, pair in enumerate(pairs))]
    for name in ("train", *names):
        (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_methods_and_tasks_of_the_papers_have_recipes() -> None:
    methods = ("magnitude", "movement", "soft-movement", "l0")
    assert {f"{m}-{t}" for m in methods for t in ("squad", "mnli", "qqp")} <= set(RECIPES)
    assert {"smp-mnli", "obert-squad", "rpp-downstream"} <= set(RECIPES)
    assert {"rpp-pretrain", "nip-pretrain"} <= set(PRETRAINING)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_valid_configuration(tmp_path: Path, name: str) -> None:
    config = TrainConfig(out=tmp_path / "out", **read_recipe(FOLDER / f"{name}.toml", TrainConfig))
    assert name in (f"{config.method}-{config.task}", "rpp-downstream")
    read_options(METHODS.get(config.method).Options, config.options, f"method {config.method}")
    TASKS.get(config.task).configured(config.task_options, config.task)
    text = (FOLDER / f"{name}.toml").read_text()
    assert f"aerogel train --config recipes/{name}.toml" in text


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_sweep_of_one_run(tmp_path: Path, name: str) -> None:
    config = TrainConfig(out=tmp_path / "out", **read_recipe(FOLDER / f"{name}.toml", TrainConfig))
    (run,) = plan(read_sweep(FOLDER / f"{name}.toml"), tmp_path)
    assert dataclasses.replace(run.config, out=config.out, progress=True) == config


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs(tmp_path: Path, tiny_checkpoint: Callable[..., Path], name: str) -> None:
    values: dict[str, Any] = read_recipe(FOLDER / f"{name}.toml", TrainConfig)
    config = TrainConfig(out=tmp_path / "out", **values)
    model = tiny_checkpoint(density=0.4 if config.freeze_mask else 1.0)
    # A tiny model and eight steps; all other settings are the recipe's.
    small = dataclasses.replace(
        config, model=str(model), data=write_data(tmp_path / "data", config.task), epochs=4, batch=2, warmup=1,
        max_length=min(config.max_length, 48), threads=1, device="cpu", progress=False,
        task_options={"stride": 8} if config.task_options else {},
    )  # fmt: skip
    if METHODS.get(config.method).density_is_outcome and config.density < 1:
        # The controller needs more steps to reach the density.
        small = dataclasses.replace(small, epochs=20, score_lr=1.0)
    result = train(small)
    assert result.masks
    expected = 0.4 if config.freeze_mask else config.density
    if expected < 1:
        assert result.accounting.density == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("name", PRETRAINING)
def test_a_recipe_for_pretraining_runs(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], name: str
) -> None:
    sentences = ["the film was good", "it was not bad", "is that a good film", "of the bad it is"]
    documents = ["\n".join(sentences[n:] + sentences[:n]) for n in range(4)] * 10
    (tmp_path / "text.txt").write_text("\n\n".join(documents) + "\n")
    values: dict[str, Any] = read_recipe(FOLDER / f"{name}.toml", PretrainConfig)
    config = PretrainConfig(out=tmp_path / "out", text=(tmp_path / "text.txt",), **values)
    assert name == f"{config.method}-pretrain"
    small = dataclasses.replace(
        config, model=str(tiny_checkpoint("bert", "PreTraining", density=1.0)), steps=40, batch=4, max_length=32,
        lr=1e-2, eval_fraction=0.2, eval_rows=4, threads=1, device="cpu", progress=False,
    )  # fmt: skip
    result = pretrain(small)
    assert result.accounting.density == pytest.approx(config.density, abs=0.005)
