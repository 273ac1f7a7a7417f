from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from aerogel import checkpoint
from aerogel.cli import main
from aerogel.cli import pretrain as verb
from aerogel.cli._recipe import config_of
from aerogel.train.pretraining.config import PretrainConfig


def parsed(*words: str) -> PretrainConfig:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return config_of(PretrainConfig, parser.parse_args(words))


def test_flags_match_the_fields_of_the_configuration() -> None:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    flags = {action.dest for action in parser._actions} - {"help", "config"}
    assert flags == {field.name for field in fields(PretrainConfig)} - {"progress"}


def test_defaults_and_values() -> None:
    words = ("--text", "t", "--model", "m", "--out", "o", "--steps", "5")
    assert parsed(*words) == PretrainConfig(text=(Path("t"),), model="m", out=Path("o"), steps=5)
    config = parsed(*words, "--text", "a", "b", "--no-nsp", "--from-scratch", "--option", "gamma=1e-3")
    assert config.text == (Path("t"), Path("a"), Path("b"))
    assert (config.nsp, config.from_scratch, config.options) == (False, True, {"gamma": "1e-3"})


def test_pretrain_prints_metrics_and_initialized_parts(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    text = "\n\n".join(f"the film was good {n}\nit is not bad\n" + "a very bad film\n" * 5 for n in range(40))
    (tmp_path / "text.txt").write_text(text)
    words = [
        "pretrain",
        "--text",
        str(tmp_path / "text.txt"),
        "--model",
        str(tiny_checkpoint("bert", "", 1.0)),
    ]
    words += ["--out", str(tmp_path / "out"), "--steps", "4", "--batch", "8", "--max-length", "32"]
    words += ["--eval-fraction", "0.2", "--method", "magnitude", "--density", "0.5", "--final-warmup", "0"]
    capfd.readouterr()  # discard the output of making the model
    assert main([*words, "--warmup", "1", "--threads", "1", "--device", "cpu"]) == 0
    made = checkpoint.load(tmp_path / "out")
    printed = capfd.readouterr()
    for name in ("mlm_loss", "mlm_accuracy", "nsp_accuracy"):
        assert f"{made.record.metrics[name]:.4f}" in printed.out
    assert "cls.predictions, cls.seq_relationship" in printed.out
    assert printed.err == ""


def test_invalid_input_gives_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["pretrain", "--text", "nowhere", "--model", "m", "--out", str(tmp_path / "o"), "--steps", "1"])
        == 2
    )
    error = capsys.readouterr().err
    assert error == "aerogel: error: --text nowhere: no such file or directory; check the path\n"
