"""Run each file of examples/ on a tiny model."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str) -> None:
    runpy.run_path(str(EXAMPLES / name))["main"](*arguments)


def test_a_dense_model_is_exported_and_embeds_texts(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_checkpoint("bert", "", density=1.0, num_hidden_layers=1)
    capsys.readouterr()
    run("export_from_python.py", str(model), str(tmp_path / "served" / "model.onnx"))
    printed = capsys.readouterr().out
    assert "density of the encoder's matrices 100.0%" in printed
    assert "difference" in printed
    run("embed.py", str(tmp_path / "served"), "good film", "bad film", "good film")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1.000  good film"
    assert [line[7:] for line in lines] == ["good film", "bad film"]


def test_every_example_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [file.name for file in EXAMPLES.glob("*.py") if f'"{file.name}"' not in source] == []
