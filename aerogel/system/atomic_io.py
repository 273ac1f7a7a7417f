"""Writing files so that a reader, a crash, a full disk or a second writer never sees half of one.

Every file that Aerogel writes for a user goes through `atomic_file` or `atomic_directory`. Regular files are replaced
as a whole; devices, pipes and open descriptors are written into (`aerogel.system.outputs`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aerogel.system.locks import claimed
from aerogel.system.outputs import file_target, folder_target, reported
from aerogel.system.staging import staged, swap

__all__ = ["atomic_directory", "atomic_file", "check_output", "claimed", "sha256", "staging"]


def check_output(path: Path, *, folder: bool = False) -> None:
    """Ask, before the work, whether a file or `folder` can be written at `path`; nothing is left there.

    Raises:
        OutputError: it is a folder where a file is meant or the other way round, a socket or a block device, it
            contains the current folder, or nothing can be written beside it.
    """
    with reported(path):
        if folder:
            place = folder_target(path)
        else:
            target = file_target(path)
            target.check()
            if target.stream:
                return
            place = target.path
        with staged(_home(place) / place.name):
            pass


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, an empty file of the same name; if the block succeeds, its content goes to `path`.

    A regular file is replaced by it, and a symbolic link is followed. A character device, a pipe or an open
    descriptor such as /dev/stdout is written into. If the block fails, `path` keeps its content. Of two writers at
    once, the last one wins.

    Raises:
        OutputError: the file cannot be written. Any OSError of the block counts as that.
    """
    with reported(path):
        target = file_target(path)
        if target.stream:
            target.check()
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder) / path.name
                temporary.touch()
                yield temporary
                with temporary.open("rb") as made, target.open() as stream:
                    shutil.copyfileobj(made, stream)
            return
        target.path.parent.mkdir(parents=True, exist_ok=True)
        with staged(target.path) as folder:
            temporary = folder / path.name
            temporary.touch()
            yield temporary
            _flush(temporary)
            temporary.replace(target.path)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory; if the block succeeds, put it at `path`, in place of a directory there.

    The older directory is deleted after the new one is in place. A failure at any moment leaves one of them at
    `path`, at the latest once something is written there again. A symbolic link is followed. Of two writers at once,
    the last one wins.

    Raises:
        OutputError: the directory cannot be written. Any OSError of the block counts as that.
    """
    with reported(path):
        place = folder_target(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with staged(place) as folder:
            temporary = folder / place.name
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            swap(temporary, place)


@contextlib.contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Yield a temporary folder on the file system of `path`; remove it with its content after the block.

    Raises:
        OutputError: it cannot be made or written to. Any OSError of the block counts as that.
    """
    with reported(path):
        place = Path(os.path.realpath(path))
        with staged(_home(place) / place.name) as folder:
            yield folder


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _home(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(parent for parent in path.parents if parent.exists())


def _flush(path: Path) -> None:
    """Bring a file to the disk, with the permissions any new file would have: some libraries make private ones."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
