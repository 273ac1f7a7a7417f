from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from aerogel.errors import MissingExtraError, OutputError, UsageError
from aerogel.train.log import Log


def test_lines_are_json_and_resumed_log_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    with Log(path) as log:
        log.write("step", 1, loss=0.5)
        kept = log.size()
        log.write("step", 2, loss=0.4)
    with Log(path, keep_bytes=kept) as log:
        log.write("step", 2, loss=0.3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"event": "step", "step": 1, "loss": 0.5}, {"event": "step", "step": 2, "loss": 0.3}]


def test_previous_log_is_kept_until_removed(tmp_path: Path) -> None:
    path, old = tmp_path / "log.jsonl", tmp_path / "log.jsonl.old"
    with Log(path) as log:
        log.write("end", 1)
    finished = path.read_text()
    for step in (2, 3):  # two runs that fail
        with Log(path) as log:
            assert log.size() == 0
            log.write("start", step)
            kept = log.size()
        assert old.read_text() == finished
    with Log(path, keep_bytes=kept) as log:
        log.remove_previous()
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("content", ["notes\n", "[1]\n", '{"text": 1}\n', "[" * 100_000, "\x00"])
@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.old"])
def test_file_that_is_not_a_log_is_not_overwritten(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=rf"log .*: .*{name} exists and is not the log of a run"):
        Log(tmp_path / "log.jsonl")
    assert (tmp_path / name).read_text() == content


def test_missing_log_is_created_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path, keep_bytes=100):
        pass
    assert path.read_text() == ""


def test_unwritable_log_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write log .*file/log.jsonl \("):
        Log(tmp_path / "file" / "log.jsonl")


def test_full_disk_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "truncate", lambda *_: None)
    with pytest.raises(OutputError, match=r"/dev/full .*No space left"), Log(Path("/dev/full")) as log:
        log.write("step", 1)


def test_numbers_are_also_written_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tmp_path / "board"
    with Log(tmp_path / "log.jsonl", tensorboard=board) as log:
        for step in (1, 2, 3):
            log.write("step", step, loss=step / 4, name="no number")
        kept = log.size()
    # A run that resumes from step 2 discards later steps and keeps that one.
    with Log(tmp_path / "log.jsonl", kept, board, 2) as log:
        log.write("step", 3, loss=9.0)
        log.write("evaluation", 4, accuracy=0.5)
    found = EventAccumulator(str(board))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("step/loss")] == [
        (1, 0.25),
        (2, 0.5),
        (3, 9.0),
    ]
    assert [event.value for event in found.Scalars("evaluation/accuracy")] == [0.5]


def test_unwritable_tensorboard_folder_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write tensorboard .*file/board \("):
        Log(tmp_path / "log.jsonl", tensorboard=tmp_path / "file" / "board")


def test_missing_tensorboard_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'aerogel\[tensorboard\]'"):
        Log(tmp_path / "log.jsonl", tensorboard=tmp_path / "board")
