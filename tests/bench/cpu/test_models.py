from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from aerogel.bench.cpu.models import Checkpoint, Export, make
from aerogel.cli import main as aerogel

PLAIN, BLOCKS = Checkpoint("bert-tiny", "1x1", 10), Checkpoint("bert-tiny", "1x4", 5)


@pytest.mark.parametrize(
    ("checkpoint", "label"),
    [(PLAIN, "90% unstructured"), (BLOCKS, "95% 1x4"), (Checkpoint("a", "4x1", 2), "98% 4x1")],
)
def test_labels_name_the_sparsity(checkpoint: Checkpoint, label: str) -> None:
    assert checkpoint.label == label


@pytest.mark.parametrize(
    "words",
    [
        Checkpoint("bert-none", "1x4", 10).command(Path("o")),
        Export(BLOCKS, "bsr", "int8", "int8").command(Path("o"), Path("m")),
        Export(PLAIN, "dense").command(Path("o"), Path("m")),
    ],
)
def test_the_command_line_accepts_every_option(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert aerogel(words) == 2
    error = capsys.readouterr().err
    assert "unrecognized" not in error
    assert "required" not in error
    assert "bert-none" in error or "o/bert-tiny" in error


class Programs:
    """Replaces `subprocess.run`: writes the output files, and fails if the command contains `fails`."""

    def __init__(self, fails: str = "nothing") -> None:
        self.fails, self.ran = fails, []

    def __call__(self, words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        verb, out = words[3], Path(words[words.index("--out") + 1])
        self.ran.append(f"{verb} {out.name}")
        if self.fails in " ".join(words):
            return subprocess.CompletedProcess(words, 2, "", "first line\naerogel: error: no such thing\n")
        if verb == "synth":
            out.mkdir(parents=True)
        else:
            assert Path(words[4]).is_dir(), "exported after its checkpoint was deleted"
            out.parent.mkdir(parents=True)
            out.write_bytes(b"onnx")
        return subprocess.CompletedProcess(words, 0, "", "")


def test_each_checkpoint_is_made_once_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", programs := Programs())
    said: list[str] = []
    dense, csr, bsr = Export(PLAIN, "dense"), Export(PLAIN, "csr", "int8", "int8"), Export(BLOCKS, "bsr")
    assert make([dense, bsr, csr, dense], tmp_path, said.append) == {}
    assert [line.split()[0] for line in programs.ran] == ["synth", "export", "export", "synth", "export"]
    assert [line.split()[2] for line in said] == [line.split()[0] for line in programs.ran]
    assert all(export.path(tmp_path).exists() for export in (dense, csr, bsr))
    assert not (tmp_path / PLAIN.name).exists()
    programs.ran.clear()
    assert make([dense, csr, bsr], tmp_path, said.append) == {}
    assert programs.ran == []


def test_failures_are_returned_and_other_exports_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", Programs("--weights fp16"))
    half, whole = Export(PLAIN, "csr", "fp16"), Export(PLAIN, "csr")
    assert make([half, whole], tmp_path, lambda _: None) == {half: "aerogel: error: no such thing"}
    assert whole.path(tmp_path).exists()


def test_without_a_checkpoint_nothing_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", programs := Programs("synth"))
    wanted = [Export(PLAIN, "csr"), Export(PLAIN, "dense")]
    assert set(make(wanted, tmp_path, lambda _: None)) == set(wanted)
    assert len(programs.ran) == 1
