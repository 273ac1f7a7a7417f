"""Atomic writes: no reader, crash, full disk or second writer ever sees half of a file.

Every file for a user is written through `atomic_file` or `atomic_directory`. They replace regular files as a whole, and
write into devices, pipes and open descriptors (`aerogel.system.outputs`).
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
    """Check, before the work, that a file or `folder` can be written at `path`; leaves nothing there.

    Raises:
        OutputError: `path` is a folder for a file output or a file for a folder output, a socket, a block device or an
            ancestor of the current folder, or its parent is not writable.
    """
    with reported(path):
        if folder:
            real = folder_target(path)
        else:
            target = file_target(path)
            target.check()
            if target.stream:
                return
            real = target.path
        with staged(_existing_parent(real) / real.name):
            pass


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file of the same name; if the block succeeds, move its content to `path`.

    A regular file at `path` is replaced; a symbolic link is followed; a character device, a pipe or an open descriptor
    such as /dev/stdout is written into. If the block fails, `path` keeps its content. Of two concurrent writers, the
    last one wins.

    Raises:
        OutputError: the file cannot be written, or the block raises an OSError.
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
    """Yield a temporary directory; if the block succeeds, move it to `path` and replace a directory there.

    The old directory is deleted after the new one is moved. If the process is killed between the two moves, the next
    writer of `path` restores the old directory. A symbolic link is followed. Of two concurrent writers, the last one
    wins.

    Raises:
        OutputError: the directory cannot be written, or the block raises an OSError.
    """
    with reported(path):
        real = folder_target(path)
        real.parent.mkdir(parents=True, exist_ok=True)
        with staged(real) as folder:
            temporary = folder / real.name
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            swap(temporary, real)


@contextlib.contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Yield a temporary folder on the file system of `path`; remove it after the block.

    Raises:
        OutputError: the folder cannot be made or written, or the block raises an OSError.
    """
    with reported(path):
        real = Path(os.path.realpath(path))
        with staged(_existing_parent(real) / real.name) as folder:
            yield folder


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _existing_parent(path: Path) -> Path:
    """The nearest existing folder above `path`."""
    return next(parent for parent in path.parents if parent.exists())


def _flush(path: Path) -> None:
    """Flush a file to the disk and give it the permissions of a new file; some libraries create private files."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
