from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from aerogel import checkpoint
from aerogel.cli import main
from aerogel.cli import train as verb
from aerogel.cli._recipe import config_of
from aerogel.train.config import TrainConfig


def parsed(*words: str) -> TrainConfig:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return config_of(TrainConfig, parser.parse_args(words))


def test_flags_match_the_fields_of_the_configuration() -> None:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    flags = {action.dest for action in parser._actions} - {"help", "config"}
    # `progress` has no flag: the command line always shows a progress bar.
    assert flags == {field.name for field in fields(TrainConfig)} - {"progress"}


def test_defaults_and_values() -> None:
    assert parsed("--task", "sst2", "--out", "o") == TrainConfig(task="sst2", out=Path("o"))
    config = parsed(
        "--task", "rte", "--out", "o", "--block", "4x1", "--warmup", "25", "--no-freeze-embeddings"
    )
    assert (config.block, config.warmup, config.freeze_embeddings) == ((4, 1), 25.0, False)


def test_options_are_collected_and_not_shared_between_parses() -> None:
    words = ("--task", "sst2", "--out", "o", "--option", "lambda=1e2", "--option", "kind=a=b")
    assert parsed(*words).options == {"lambda": "1e2", "kind": "a=b"}
    assert parsed("--task", "sst2", "--out", "o").options == {}


def test_flags_override_the_recipe_which_overrides_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('task = "sst2"\nlr = 1e-3\nbatch = 8\nblock = "4x1"\n[options]\na = 1\nb = 2\n')
    given = ("--config", str(recipe), "--out", "o")
    assert parsed(*given) == TrainConfig(
        task="sst2", out=Path("o"), lr=1e-3, batch=8, block=(4, 1), options={"a": 1, "b": 2}
    )
    config = parsed(*given, "--lr", "3e-5", "--option", "b=3", "--block", "1x1")
    assert (config.lr, config.batch, config.block, config.options) == (3e-5, 8, (1, 1), {"a": 1, "b": "3"})


def test_train_prints_metrics_and_densities(
    tmp_path: Path,
    tiny_checkpoint: Callable[..., Path],
    sentiment: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "[/red] out"
    words = [
        "train",
        "--task",
        "sst2",
        "--data",
        str(sentiment()),
        "--model",
        str(tiny_checkpoint(density=1.0)),
    ]
    words += [
        "--method",
        "movement",
        "--density",
        "0.25",
        "--block",
        "4x1",
        "--batch",
        "16",
        "--max-length",
        "16",
    ]
    capfd.readouterr()  # discard the output of making the model
    words += ["--eval-rows", "8"]
    assert main([*words, "--threads", "1", "--device", "cpu", "--out", str(out)]) == 0
    made = checkpoint.load(out)
    assert made.accounting.density == 0.25
    printed = capfd.readouterr()
    assert f"{made.record.metrics['accuracy']:.4f}" in printed.out
    assert "0.2500" in printed.out
    assert "evaluation rows (--eval-rows 8)" in " ".join(printed.out.split())
    # Text that rich would read as markup is printed unchanged.
    assert "[/red] out" in " ".join(printed.out.split())
    # No bar, and none of transformers' own, where standard error is not a terminal.
    assert printed.err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--density", "1.5"], "density 1.5: must be above 0 and at most 1"),
        (["--block", "4"], "'4' is not ROWSxCOLS"),
        (["--method", "movment"], "unknown method 'movment'; known: dense, "),
        (["--option", "lambda"], "argument --option: 'lambda' is not NAME=VALUE"),
        (["--option", "a=1", "--option", "a=2"], "argument --option: a is given twice"),
        (["--method", "magnitude", "--option", "eps=1"], "method magnitude has no such option"),
        (["--config", "none.toml"], "config none.toml cannot be read"),
        (["--task-option", "stride=96"], "--task-option stride: task sst2 has no such option; it has none"),
        (["--eval-rows", "0"], "--eval-rows 0: must be at least 1"),
        (["--data", "nowhere"], "nowhere is not a directory"),
    ],
)
def test_invalid_input_gives_one_line_and_status_2(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--task", "sst2", "--device", "cpu", "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("aerogel: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "flag"), [([], "--out"), (["--out", "o"], "--task")])
def test_missing_required_setting_is_named(
    words: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 2
    assert f"{flag} is required; set it as a flag or in the --config file" in capsys.readouterr().err
