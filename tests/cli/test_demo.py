from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest

from aerogel import checkpoint
from aerogel.cli import _demo, main
from aerogel.kernels.cpu.library import find_library
from aerogel.train import progress


def test_demo_trains_exports_measures_and_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = functools.partial(
        _demo.DemoConfig,
        hidden=64,
        layers=1,
        epochs=1,
        pruning_epochs=1,
        train_rows=320,
        seq=48,
        rounds=2,
        density=0.2,
    )
    monkeypatch.setattr(_demo, "DemoConfig", tiny)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    out = tmp_path / "demo"
    # A user's own folder in the output directory is left untouched.
    (out / "start").mkdir(parents=True)
    (out / "start" / "thesis.tex").touch()
    assert main(["demo", "--out", str(out), "--seed", "3"]) == 0
    assert (out / "start" / "thesis.tex").exists()
    printed = capsys.readouterr()
    assert "Writing model shards" not in printed.err
    # Training reports its steps, also to a pipe.
    for method in ("dense", "movement"):
        assert [f"{method}: step {step} of 5," in printed.err for step in range(1, 6)] == [True] * 5
    rows = [line for line in printed.out.splitlines() if line.startswith("│")]
    assert [line.split()[1] for line in rows] == ["dense", "movement"]
    assert "20.0%" in rows[1]
    assert f"plot: {out / 'demo.png'}" in printed.out.replace("\n", "")
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")

    dense, pruned = json.loads((out / "demo.json").read_text())["models"]
    library = find_library() is not None
    assert dense["backend"] == "onnxruntime"
    assert pruned["backend"] == ("aerogel" if library else "onnxruntime")
    assert pruned["file_bytes"] < dense["file_bytes"]
    made = checkpoint.load(out / "movement")
    assert pruned["density"] == made.accounting.density == pytest.approx(0.2, abs=1e-3)
    assert made.record.seed == 3
    # The exported file has the accuracy measured in training, except for ties that rounding breaks.
    for row in (dense, pruned):
        measured = checkpoint.load(out / row["model"]).record.metrics["accuracy"]
        assert row["accuracy"] == pytest.approx(measured, abs=0.002)


def test_missing_extra_is_reported_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert "pip install 'aerogel[export]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "taken", ["dense/thesis.tex", "movement/thesis.tex", "demo.json/x", "demo.png/x", "onnx"]
)
def test_blocked_output_is_reported_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    monkeypatch.setattr(_demo, "_train", lambda *_: pytest.fail("it began"))
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).touch()
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert taken.partition("/")[0] in capsys.readouterr().err
    assert (tmp_path / taken).exists()
