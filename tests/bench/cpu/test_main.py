from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.bench.backends import BACKENDS, third_party_backends
from aerogel.bench.cpu import __main__ as command
from aerogel.bench.cpu import plan, run
from aerogel.bench.cpu.models import Checkpoint, Export
from aerogel.bench.cpu.plan import Configuration, Row
from aerogel.bench.result import Settings

Models = Callable[..., Path]

DENSE = Export(Checkpoint("fake", "1x1", 10), "dense")
CSR = Export(Checkpoint("fake", "1x1", 10), "csr")
HALF = Export(Checkpoint("fake", "1x1", 10), "csr", "fp16")
QUICK = Settings(seq=4, rounds=2, repeats=2)
FAKE = Configuration(
    "density-10",
    "a fake",
    QUICK,
    (
        Row(DENSE, "onnxruntime", DENSE),
        Row(DENSE, "onnxruntime-int8", DENSE),
        Row(CSR, "aerogel", DENSE),
        Row(HALF, "aerogel", DENSE),
    ),
)


@pytest.fixture
def out(tmp_path: Path, token_model: Models, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all models of FAKE except the one that cannot be made."""
    out = tmp_path / "out"
    for export in (DENSE, CSR):
        path = export.path(out / "models")
        path.parent.mkdir(parents=True)
        token_model(path.name, sparse=export is CSR).rename(path)
        path.with_name("config.json").write_text('{"vocab_size": 50}')
    monkeypatch.setattr(run, "make", lambda *_: {HALF: "aerogel: error: fp16 is unknown"})
    monkeypatch.setattr(plan, "configurations", lambda **_: [FAKE])
    monkeypatch.setattr(command, "cores", lambda: 2)
    return out


def test_a_configuration_is_measured_printed_and_saved(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--out", str(out), "--backends", "onnxruntime-int8"]) == 0
    assert "1 of 1: a fake" in capsys.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == [
        "configurations", "converted", "cpu.json", "cpu.md", "density.png", "latency.png", "models",
    ]  # fmt: skip
    (found,) = json.loads((out / "cpu.json").read_text())["configurations"]
    assert json.loads((out / "configurations" / "density-10.json").read_text())["configurations"] == [found]
    expected = {"onnxruntime", "onnxruntime-int8"} | (
        {"aerogel"} if BACKENDS.get("aerogel").refuse(run.scan(CSR.path(out / "models"))) is None else set()
    )
    assert {item["backend"] for item in found["runs"]} == expected
    assert all(item["correct"] and item["label"] == "90% unstructured" for item in found["runs"])
    assert "aerogel: error: fp16 is unknown" in {item["reason"] for item in found["skipped"]}
    text = (out / "cpu.md").read_text()
    assert "fp16 is unknown" in text
    assert "not measured" in text


def test_saved_results_are_reused_until_something_changes(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    real = run.measure
    monkeypatch.setattr(run, "measure", lambda *a, **k: measured.append(1) or real(*a, **k))
    words = ["--out", str(out), "--backends", "none"]
    for count in (1, 1):
        assert command.main(words) == 0
        assert len(measured) == count
    (out / "configurations" / "density-10.json").write_text("damaged")
    assert command.main(words) == 0
    assert len(measured) == 2
    assert command.main(["--out", str(out), "--backends", "onnxruntime-int8"]) == 0
    assert len(measured) == 3


def test_missing_backends_are_listed_with_what_to_do(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "measure", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr(plan, "configurations", lambda **_: [])
    monkeypatch.setenv("AEROGEL_PYTHON_DEEPSPARSE", str(out / "no-python"))
    assert command.main(["--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "note: deepsparse, deepsparse-int8: AEROGEL_PYTHON_DEEPSPARSE=" in printed
    assert len(third_party_backends()) >= 6


def test_a_machine_of_one_core_skips_two_threads(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "cores", lambda: 1)
    two = Configuration("main-2", "two threads", Settings(threads=2, seq=4, rounds=2, repeats=2), FAKE.rows)
    monkeypatch.setattr(plan, "configurations", lambda **_: [two, FAKE])
    assert command.main(["--out", str(out), "--backends", "none"]) == 0
    assert "- two threads: skipped, the machine has 1 cores" in (out / "cpu.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--configurations", "nowhere"], "--configurations nowhere: unknown name; known: density-10"),
        (["--backends", "nobody"], "unknown backend 'nobody'"),
    ],
)
def test_bad_arguments_are_one_line(
    out: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_without_a_baseline_there_is_nothing_to_measure(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "make", lambda *_: {DENSE: "aerogel: error: no room"})
    assert command.main(["--out", str(out), "--backends", "none"]) == 2
    assert "a fake: cannot make the baseline: aerogel: error: no room" in capsys.readouterr().err
    assert not (out / "cpu.md").exists()


def test_a_failed_configuration_does_not_stop_the_others(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Export(Checkpoint("gone", "1x1", 10), "dense")
    broken = Configuration("main-1", "broken", QUICK, (Row(missing, "onnxruntime", missing),))
    monkeypatch.setattr(run, "make", lambda *_: {HALF: "no", missing: "no such shape"})
    monkeypatch.setattr(plan, "configurations", lambda **_: [broken, FAKE])
    assert command.main(["--out", str(out), "--backends", "none"]) == 2
    text = (out / "cpu.md").read_text()
    assert "- broken: failed: cannot make the baseline: no such shape" in text
    assert "## a fake" in text


def test_results_of_earlier_runs_with_the_same_library_stay_in_the_document(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Configuration("main-1", "another", QUICK, FAKE.rows)
    monkeypatch.setattr(plan, "configurations", lambda **_: [other, FAKE])
    words = ["--out", str(out), "--backends", "none", "--configurations"]
    assert command.main([*words, "main-1"]) == 0
    assert command.main([*words, "density-10"]) == 0
    assert [line for line in (out / "cpu.md").read_text().splitlines() if line.startswith("## ")] == [
        "## Targets", "## another", "## a fake", "## Latency against density",
    ]  # fmt: skip
    saved = out / "configurations" / "main-1.json"
    document = json.loads(saved.read_text())
    document["configurations"][0]["library"] = "of another build"
    saved.write_text(json.dumps(document))
    assert command.main([*words, "density-10"]) == 0
    assert "## another" not in (out / "cpu.md").read_text()


def test_configurations_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["--out", str(tmp_path / "o"), "--configurations", "list", "--quick"]) == 0
    assert capsys.readouterr().out.startswith("main-1: minilm-l6, one thread\n")
    assert not (tmp_path / "o").exists()
