from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pytest

from aerogel import files
from aerogel.errors import OutputError, UsageError
from aerogel.files import atomic_file, claimed


def test_what_one_has_claimed_is_refused_to_another(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "out"
    with claimed(place, "--out"):
        with pytest.raises(
            UsageError, match=r"--out .*runs/out: another run is writing it; wait for its end or"
        ):
            claimed(place, "--out").__enter__()
        with claimed(tmp_path / "runs" / "other", "--out"):
            pass
    with claimed(place, "--out"):
        pass
    assert not (tmp_path / "runs").exists()


def test_a_claim_leaves_what_was_written(tmp_path: Path) -> None:
    with claimed(tmp_path / "runs" / "out", "--out"), atomic_file(tmp_path / "runs" / "out") as file:
        file.write_text("kept")
    assert [found.name for found in (tmp_path / "runs").iterdir()] == ["out"]


def test_what_a_killed_process_left_is_no_claim(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").touch()
    with claimed(tmp_path / "out", "--out"):
        pass


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/out cannot be written"):
        claimed(tmp_path / "file" / "out", "--out").__enter__()


def test_a_lock_that_its_holder_removes_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, turns = tmp_path / "runs" / ".out.lock", []
    real = fcntl.flock

    def flock(stream: int, operation: int) -> None:
        turns.append(stream)
        if len(turns) == 1:
            # As if another run had ended between opening and locking.
            shutil.rmtree(lock.parent)
        real(stream, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed(tmp_path / "runs" / "out", "--out"):
        assert len(turns) == 2
        assert lock.exists()
        with pytest.raises(UsageError, match="another run"):
            claimed(tmp_path / "runs" / "out", "--out").__enter__()


def test_without_locks_everybody_is_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LOCKS", False)
    with claimed(tmp_path / "out", "--out"), claimed(tmp_path / "out", "--out"):
        pass
    assert not list(tmp_path.iterdir())
