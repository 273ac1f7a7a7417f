from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aerogel.errors import OutputError, UsageError
from aerogel.train.log import Log


def test_lines_are_json_and_a_resumed_log_is_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    with Log(path) as log:
        log.write("step", 1, loss=0.5)
        kept = log.size()
        log.write("step", 2, loss=0.4)
    with Log(path, keep_bytes=kept) as log:
        log.write("step", 2, loss=0.3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"event": "step", "step": 1, "loss": 0.5}, {"event": "step", "step": 2, "loss": 0.3}]


def test_a_new_log_replaces_the_old_and_a_lost_one_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("old\n")
    with Log(path):
        pass
    assert path.read_text() == ""
    path.unlink()
    with Log(path, keep_bytes=100):
        pass
    assert path.read_text() == ""


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--log .*file/log.jsonl cannot be written"):
        Log(tmp_path / "file" / "log.jsonl")


def test_a_full_disk_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "truncate", lambda *_: None)
    with pytest.raises(OutputError, match=r"log /dev/full .*No space left"), Log(Path("/dev/full")) as log:
        log.write("step", 1)
