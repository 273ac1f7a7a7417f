from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aerogel.errors import OutputError, UsageError
from aerogel.system import locks
from aerogel.system.atomic_io import atomic_directory, atomic_file, check_output, claimed


def test_a_claimed_path_cannot_be_claimed_again(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "out"
    with claimed(path, "--out"):
        with pytest.raises(
            UsageError, match=r"--out .*runs/out: another run is writing it; wait until it ends or"
        ):
            claimed(path, "--out").__enter__()
        with claimed(tmp_path / "runs" / "other", "--out"):
            pass
    with claimed(path, "--out"):
        pass
    assert not (tmp_path / "runs").exists()


def test_a_claim_keeps_the_files_written_during_it(tmp_path: Path) -> None:
    with claimed(tmp_path / "runs" / "out", "--out"), atomic_file(tmp_path / "runs" / "out") as file:
        file.write_text("kept")
    assert [found.name for found in (tmp_path / "runs").iterdir()] == ["out"]


def test_the_lock_file_of_a_killed_process_is_not_a_claim(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").touch()
    with claimed(tmp_path / "out", "--out"):
        pass


def test_claimed_names_an_unwritable_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/out cannot be written"):
        claimed(tmp_path / "file" / "out", "--out").__enter__()


def test_a_lock_removed_between_opening_and_locking_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, turns = tmp_path / "runs" / ".out.lock", []
    real = fcntl.flock

    def flock(stream: int, operation: int) -> None:
        turns.append(stream)
        if len(turns) == 1:
            # Another run ends between opening and locking.
            shutil.rmtree(lock.parent)
        real(stream, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed(tmp_path / "runs" / "out", "--out"):
        assert len(turns) == 2
        assert lock.exists()
        with pytest.raises(UsageError, match="another run"):
            claimed(tmp_path / "runs" / "out", "--out").__enter__()


def test_every_claim_succeeds_without_file_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LOCKS", False)
    with claimed(tmp_path / "out", "--out"), claimed(tmp_path / "out", "--out"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["/proc/x", "/proc/x/y"])
def test_the_error_names_a_folder_that_accepts_no_files(name: str) -> None:
    for act in (
        lambda path: claimed(path, "--out").__enter__(),
        check_output,
        lambda path: check_output(path, folder=True),
    ):
        with pytest.raises(
            OutputError, match=rf"^{name} cannot be written \(/proc accepts no new files\); choose"
        ):
            act(Path(name))


def test_the_remedy_depends_on_the_system_error(tmp_path: Path) -> None:
    for number, remedy in ((errno.ENOSPC, "free disk space"), (errno.EACCES, "check its permissions")):
        with (
            pytest.raises(OutputError, match=rf"x cannot be written \({os.strerror(number)}\); {remedy}"),
            atomic_file(tmp_path / "x"),
        ):
            raise OSError(number, os.strerror(number))


WRITE = """
import sys, time
from pathlib import Path
from aerogel.system.atomic_io import atomic_directory, atomic_file
path, kind, text = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with (atomic_directory if kind == "folder" else atomic_file)(path) as made:
    print("started", flush=True)
    sys.stdin.readline()
    (made / "x" if kind == "folder" else made).write_text(text)
"""


def writer(path: Path, kind: str, text: str) -> subprocess.Popen[str]:
    """A process that has started to write and waits for a line."""
    made = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path), kind, text],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert made.stdout is not None
    assert made.stdout.readline() == "started\n"
    return made


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_last_of_two_concurrent_writers_wins(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    first, second = writer(path, kind, "first"), writer(path, kind, "second")
    assert len(list(tmp_path.iterdir())) == 2
    for process, text in ((second, "second"), (first, "first")):
        process.communicate("\n", timeout=60)
        assert process.returncode == 0
        assert (path / "x" if kind == "folder" else path).read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_only_the_files_of_killed_writers_are_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    killed, alive = writer(path, kind, "killed"), writer(path, kind, "alive")
    killed.kill()
    killed.communicate()
    (tmp_path / ".x.12345678.part").mkdir()
    (tmp_path / ".x.12345678.part" / "mine").touch()  # a user's file
    check_output(path, folder=kind == "folder")
    assert len(list(tmp_path.iterdir())) == 2
    alive.communicate("\n", timeout=60)
    assert alive.returncode == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [".x.12345678.part", "x"]


def test_a_folder_moved_aside_by_a_killed_writer_is_restored(tmp_path: Path) -> None:
    aside = tmp_path / ".x.abcdefgh.part" / "old" / "x"
    aside.mkdir(parents=True)
    (aside / "kept").touch()
    (aside.parents[1] / "lock").touch()
    check_output(tmp_path / "x", folder=True)
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x" / "kept").exists()


def test_a_folder_that_cannot_be_renamed_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "old").touch()
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.parent.name == "new":
            raise OSError(errno.EIO, "I/O error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with (
        pytest.raises(OutputError, match=r"x cannot be written \(I/O error\)"),
        atomic_directory(tmp_path / "x"),
    ):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x" / "old").exists()


def test_exceeding_the_file_size_limit_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    code = (
        "import resource, sys; from pathlib import Path; from aerogel.system.atomic_io import atomic_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with atomic_file(Path(sys.argv[1])) as file: file.write_bytes(bytes(2000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "OutputError: " in done.stderr
    assert "x cannot be written (File too large); raise the limit" in done.stderr.splitlines()[-1]
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_files_with_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "\U0001f600" * 63):
        with atomic_file(tmp_path / name) as file:
            file.write_text("x")
        assert (tmp_path / name).read_text() == "x"
