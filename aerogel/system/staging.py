"""Staging folders: each writer works in its own folder next to the output, then renames the result.

``.NAME.TOKEN.part/`` contains ``new/`` for the new output, ``old/`` for the replaced one, and ``lock``, which the
writer keeps locked. If ``lock`` is not locked, the writer was killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aerogel.system import locks

__all__ = ["staged", "swap", "sweep"]

_LOCK, _NEW, _OLD = "lock", "new", "old"
# Characters of the output's name in the folder's name: up to 4 bytes each, of the 255 that file systems allow.
_MAX_NAME = 60
_TRIES = 100


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a new empty folder on the file system of `path`, whose parent must exist; remove it after the block.

    Staging folders of killed writers of `path` are removed first.

    Raises:
        OSError: the folder cannot be created.
    """
    sweep(path)
    folder, stream = _create(path)
    try:
        (folder / _NEW).mkdir()
        yield folder / _NEW
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(stream)
        # Windows cannot remove the lock while it is open.
        shutil.rmtree(folder, ignore_errors=True)


def swap(new: Path, path: Path) -> None:
    """Move the folder `new`, which is inside a `staged` folder, to `path`; move a folder there aside first.

    If the process is killed in between, the next `sweep` restores the old folder. If another writer puts its folder
    there in between, that folder is moved aside too: the last writer wins.

    Raises:
        OSError: the folder cannot be renamed; the old folder is restored.
    """
    aside = new.parents[1] / _OLD / path.name
    for _ in range(_TRIES):
        try:
            if path.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # another writer moved it aside
                    path.rename(aside)
            new.rename(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                _restore(aside, path)
                raise
    _restore(aside, path)
    raise OSError("other processes keep replacing it")


def sweep(path: Path) -> None:
    """Remove the staging folders of killed writers of `path`; restore an old folder that one had moved aside.

    Without file locks, running and killed writers cannot be distinguished, and nothing is removed.
    """
    pattern = re.compile(rf"\.{re.escape(path.name[:_MAX_NAME])}\.[a-z0-9_]{{8}}\.part")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _sweep(Path(entry.path))


def _create(path: Path) -> tuple[Path, int]:
    """Create a staging folder for `path`; returns it and the descriptor of its lock.

    Retry if the sweep of another process removes the folder before it is locked.
    """
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:_MAX_NAME]}.", suffix=".part", dir=path.parent))
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            if (stream := locks.lock(folder / _LOCK, create=True)) is not None:
                return folder, stream
    raise OSError("other processes keep removing its temporary folder")


def _sweep(folder: Path) -> None:
    try:
        stream = locks.lock(folder / _LOCK, create=False)
    except FileNotFoundError:
        with contextlib.suppress(OSError):  # not empty, so not a staging folder
            folder.rmdir()
        return
    except OSError:  # its writer is running, or there are no locks
        return
    if stream is None:  # another process has just removed it
        return
    try:
        for aside in (folder / _OLD).glob("*"):
            _restore(aside, folder.parent / aside.name)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(stream)


def _restore(aside: Path, path: Path) -> None:
    if not os.path.lexists(path):
        with contextlib.suppress(OSError):
            aside.rename(path)
