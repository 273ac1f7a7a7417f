from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from aerogel.bench.gpu.__main__ import main
from aerogel.bench.gpu.child import Child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is made for Linux only")


def test_dry_run_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dry-run", "--out", str(tmp_path), "--cases", "blocks,16x16"]
    assert main(words) == 0
    text = (tmp_path / "gpu.md").read_text()
    assert "the numbers do not apply to a GPU" in text
    assert "| blocks 16x16 90% float16 3072x768 4096 | aerogel-bsr |" in text
    document = json.loads((tmp_path / "results.json").read_text())
    rows = document["cases"]["blocks 16x16 90% float16 3072x768 4096"]["rows"]
    assert rows["aerogel-bsr"]["ms"] > 0
    assert "error" in rows["torch-bsr"]
    capsys.readouterr()
    assert main(words) == 0
    assert "1 of 1" not in capsys.readouterr().out


def test_tuning_table_of_a_dry_run(tmp_path: Path) -> None:
    words = ["--dry-run", "--tune", "--out", str(tmp_path), "--cases", "bsr,16x16,768x768,1,0.1"]
    assert main(words) == 0
    (row,) = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert (row["format"], row["block"], row["shape"], row["tokens"]) == ("bsr", [16, 16], [768, 768], 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aerogel: error: PyTorch finds no GPU")


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("encoder bert-base")
    wrong = (["--cases", "nothing"], ["--minutes", "0"], ["--minutes", "nan"])
    for words, message in zip(
        wrong, ("matches no case", "must be greater than 0", "must be greater than 0"), strict=True
    ):
        assert main(["--dry-run", "--out", str(tmp_path), *words]) == 2
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_case_does_not_stop_others() -> None:
    with Child("cpu") as child:
        assert child.ask("machine", 0.0) == {"error": "took longer than 0 s"}
        assert child.ask("no such case", 120.0) == {"error": "KeyError: 'no such case'"}
        assert child._process is not None
        child._process.kill()
        child._process.wait()
        assert child.ask("machine", 120.0)["result"]["dry_run"]
    with Child("no such device") as child:
        assert child.ask("machine", 120.0)["error"].startswith("the process died: ")
