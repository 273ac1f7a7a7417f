from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.bench import harness, setup
from aerogel.bench.jobs import Job
from aerogel.bench.model import OnnxFile
from aerogel.bench.result import Skipped
from aerogel.cli import main

Models = Callable[..., Path]

QUICK = ["--rounds", "2", "--repeats", "2", "--seq", "6"]


def test_bench_prints_tables_and_writes_files(
    token_model: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense, sparse = token_model("dense.onnx"), token_model("sparse.onnx", sparse=True)
    (tmp_path / "config.json").write_text('{"vocab_size": 50}')
    out = tmp_path / "out"
    files = ["--json", str(out / "b.json"), "--markdown", str(out / "b.md"), "--plot", str(out / "b.png")]
    assert main(["bench", str(dense), str(sparse), *QUICK, *files]) == 0
    printed = capsys.readouterr()
    assert "dense.onnx" in printed.out
    assert "baseline" in printed.out
    assert "dense.onnx was not run on aerogel: it has no sparse functions" in printed.err
    (point,) = json.loads((out / "b.json").read_text())["configurations"]
    assert point["baseline"] == 0
    assert [run["model"] for run in point["runs"]][:2] == [str(dense), str(sparse)]
    assert all(run["correct"] for run in point["runs"])
    assert (out / "b.md").read_text().startswith("batch 1, sequence 6, 1 thread")
    assert sorted(file.name for file in out.iterdir()) == ["b.json", "b.md", "b.png"]


def test_wrong_outputs_give_status_1(
    token_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = token_model("sparse.onnx", sparse=True)
    # The model runs on stock ONNX Runtime twice; the second run is reported to differ by the whole output.
    monkeypatch.setattr(harness, "_compare", lambda opened, *_: [None, *[1.0] * (len(opened) - 1)])

    def twice(files: list[OnnxFile], *_: object) -> tuple[list[Job], list[Skipped]]:
        return [Job(files[0], "onnxruntime", "sparse.onnx", files[0]) for _ in range(2)], []

    monkeypatch.setattr(harness, "plan", twice)
    (tmp_path / "config.json").write_text('{"vocab_size": 50}')
    assert main(["bench", str(model), *QUICK]) == 1
    printed = capsys.readouterr()
    assert "wrong output" in printed.out
    assert "differs from" in printed.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["missing.onnx"], "missing.onnx does not exist"),
        (["MODEL", "--threads", "0"], "--threads 0 is out of range"),
        (["MODEL", "--threads", "99999999999"], "--threads 99999999999 is out of range; give an integer"),
        (["FOLDER"], "folder.onnx is a folder; give the .onnx file"),
        (["MODEL", "--seed", "-1"], "--seed -1 is out of range"),
        (["MODEL", "--seq", "-5"], "--seq -5: must be at least 1"),
        (["MODEL", "--batch", "1,0"], "--batch 0: must be at least 1"),
        (["MODEL", "--lengths", "4,0"], "--lengths 4,0: entry 2 is '0'"),
        (
            ["MODEL", "--lengths", "nowhere"],
            "--lengths nowhere: must be integers separated by commas, or a readable file",
        ),
        (["MODEL", "--lengths", "4", "--seq", "5"], "give only one of them"),
        (["MODEL", "--backends", "nobody"], "unknown backend 'nobody'; known: aerogel,"),
        (["MODEL", "--resume"], "--resume reads the --json file; give --json too"),
        (["MODEL", "--baseline", "other.onnx"], "other.onnx does not exist"),
        (["MODEL", "--plot", "b.xyz"], "--plot b.xyz: unknown picture format"),
        (["NOT_ONNX"], "text.onnx is not an ONNX file"),
    ],
)
def test_invalid_input_gives_one_line_and_status_2(
    token_model: Models, tmp_path: Path, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    (tmp_path / "folder.onnx").mkdir()
    names = {
        "MODEL": str(token_model("model.onnx")),
        "NOT_ONNX": str(text),
        "FOLDER": str(tmp_path / "folder.onnx"),
    }
    assert main(["bench", *[names.get(word, word) for word in argv]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


@pytest.mark.parametrize("option", ["--json", "--markdown", "--plot"])
def test_unwritable_outputs_are_rejected_before_measuring(
    token_model: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(harness, "bench", lambda *_, **__: pytest.fail("measured"))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    model = str(token_model("model.onnx"))
    for place, words in (("folder.png", "is a folder"), ("file/b.png", "cannot be written")):
        assert main(["bench", model, option, str(tmp_path / place)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert words in error


def test_ids_past_the_models_vocabulary_are_explained(
    token_model: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    # No config.json beside it: ids below 1000 are tried on 2 rows.
    assert main(["bench", str(token_model("model.onnx", vocab=2)), *QUICK]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "does not run at --batch 1 --seq 6" in error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--json", "a.onnx"], "--json a.onnx would overwrite the model a.onnx"),
        (["--json", "a.manifest.json"], "would overwrite the manifest of the model a.onnx"),
        (["--markdown", "link.md"], "--markdown link.md would overwrite the model a.onnx"),
        (["--plot", "hard.png"], "--plot hard.png would overwrite the model a.onnx"),
        (
            ["--baseline", "b.onnx", "--json", "./b.onnx"],
            "--json b.onnx would overwrite the --baseline model",
        ),
        (["--json", "x", "--markdown", "x"], "--markdown x would overwrite --json"),
    ],
)
def test_outputs_do_not_overwrite_models_or_each_other(
    token_model: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(harness, "bench", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.chdir(tmp_path)
    before = [token_model(name).read_bytes() for name in ("a.onnx", "b.onnx")]
    (tmp_path / "link.md").symlink_to("a.onnx")
    (tmp_path / "hard.png").hardlink_to("a.onnx")
    assert main(["bench", "a.onnx", *argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert [(tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx")] == before


def test_batch_that_does_not_fit_into_memory_is_reported(
    token_model: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(token_model("model.onnx")), *QUICK, "--batch", str(10**14)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--batch 100000000000000 --seq 6 do not fit into memory" in error


def test_unknown_instruction_set_is_rejected_before_opening_models(
    token_model: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "Worker", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setenv("AEROGEL_ISA", "foo")
    assert main(["bench", str(token_model("model.onnx")), *QUICK]) == 2
    assert "AEROGEL_ISA: unknown instruction set 'foo'" in capsys.readouterr().err


def test_resume_reuses_measured_configurations(
    token_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = str(token_model("model.onnx")), tmp_path / "b.json"
    (tmp_path / "config.json").write_text('{"vocab_size": 50}')
    same = ["bench", model, "--rounds", "2", "--repeats", "2", "--json", str(file)]
    assert main([*same, "--batch", "1,2", "--seq", "3", "--markdown", str(tmp_path / "b.md")]) == 0
    assert (tmp_path / "b.md").read_text().count("| model.onnx | onnxruntime |") == 2
    first = json.loads(file.read_text())["configurations"]
    assert [point["settings"]["batch"] for point in first] == [1, 2]
    measured = []
    real = harness.bench
    monkeypatch.setattr(harness, "bench", lambda *a, **k: measured.append(a[1]) or real(*a, **k))
    assert main([*same, "--batch", "2", "--seq", "3,4", "--resume"]) == 0
    assert [(point.batch, point.seq) for point in measured] == [(2, 4)]
    second = json.loads(file.read_text())["configurations"]
    assert second[0] == first[1]
    assert capsys.readouterr().out.count("batch 2, sequence 3") == 2


def test_lengths_define_a_padded_batch(token_model: Models, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 50}')
    (tmp_path / "lengths.txt").write_text("7\n3\n")
    file = tmp_path / "b.json"
    sparse = str(token_model("model.onnx", sparse=True))
    same = ["bench", sparse, "--rounds", "2", "--repeats", "2", "--json", str(file)]
    for words in ("7,3", str(tmp_path / "lengths.txt")):
        assert main([*same, "--lengths", words]) == 0
        settings = json.loads(file.read_text())["configurations"][0]["settings"]
        assert (settings["batch"], settings["seq"], settings["lengths"]) == (2, 7, [7, 3])
