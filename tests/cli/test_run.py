from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import aerogel
from aerogel.cli import main


@pytest.fixture(scope="session")
def served(tiny_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aerogel.export.config import ExportConfig
    from aerogel.export.run import export

    folder = tmp_path_factory.mktemp("run") / "served"
    export(ExportConfig(tiny_checkpoint("bert", ""), folder / "model.onnx", format="csr"))
    return folder


def test_a_fused_model_runs_on_files_and_standard_input(
    tmp_path: Path, served: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = ["the film was good", "bad", "the acting is not very good"]
    (tmp_path / "a.txt").write_text("\n".join(texts[:2]) + "\n")
    words = ["run", str(served), "--in", str(tmp_path / "a.txt"), "-", "--out", str(tmp_path / "out.npy")]
    reader, writer = os.pipe()
    os.write(writer, texts[2].encode())
    os.close(writer)
    kept = os.dup(0)
    os.dup2(reader, 0)
    try:
        assert main(words) == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)
    printed, said = capfd.readouterr()
    assert printed == ""
    assert said.startswith(f"3 rows in {tmp_path}/out.npy, ")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), aerogel.load(served, threads=1).embed(texts))


def test_options_reach_the_model(tmp_path: Path, served: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,the film\n")
    out = tmp_path / "out.jsonl"
    words = ["--column", "body", "--keep", "id", "--dimensions", "3", "--max-length", "5", "--workers", "2"]
    assert main(["run", str(served), "--in", str(tmp_path / "a.csv"), "--out", str(out), *words]) == 0
    (line,) = out.read_text().splitlines()
    found = json.loads(line)
    assert found["id"] == "1"
    assert len(found["embedding"]) == 3


BAD = [
    (["--in", "IN", "--out", "IN"], "would overwrite the input"),
    (["--in", "IN", "--out", "MODEL/out.npy"], "lies in the model"),
    (["--in", "IN", "--out", "out.npy", "--column", "body"], "in.txt:1: no column 'body'"),
    (["--in", "gone.txt", "--out", "out.npy"], "gone.txt cannot be read"),
    (["--in", "-", "-", "--out", "out.npy"], "standard input can be read once"),
    (["--in", "IN", "--out", "out.npy", "--threads", "0"], "threads 0 is out of range"),
    (["--in", "IN", "--out", "out.npy", "--format", "xml"], "unknown input format 'xml'"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[message[:24] for _, message in BAD])
def test_a_bad_command_line_is_refused_in_one_line(
    tmp_path: Path, served: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("the film\n")
    known = {"IN": "in.txt", "MODEL/out.npy": str(served / "out.npy")}
    assert main(["run", str(served), *(known.get(word, word) for word in words)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert Path("in.txt").read_text() == "the film\n"
    assert not Path("out.npy").exists()


def test_running_needs_neither_torch_nor_transformers(tmp_path: Path, served: Path) -> None:
    (tmp_path / "in.txt").write_text("the film\n")
    blocked = ["torch", "transformers", "onnx", "onnxscript", "datasets", "pyarrow", "orjson", "matplotlib"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); from aerogel.cli import main; sys.exit(main())"
    words = ["run", str(served), "--in", str(tmp_path / "in.txt"), "--out", str(tmp_path / "out.npy")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_bar_shows_rows_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from aerogel.bulk import progress

    drawn = io.StringIO()
    monkeypatch.setattr(
        progress,
        "console",
        lambda **_: Console(file=drawn, force_terminal=True, width=100, color_system=None),
    )
    with progress.reporting() as report:
        report(1000, None)
        report(5000, 0.5)
    assert "5,000 rows" in drawn.getvalue()
    assert "rows/s" in drawn.getvalue()
