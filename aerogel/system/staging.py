"""A folder of its own for each writer, beside its output, from which the finished work is renamed into place.

``.NAME.TOKEN.part/`` has the subfolder ``new`` for the work, ``old`` for a folder that was moved aside, and ``lock``,
which the writer keeps locked. An unlocked one belonged to a process that was killed.
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
# Characters of the output's name in the folder's: at 4 bytes each, the longest that a file system takes.
_NAME = 60
_TRIES = 100


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a new empty folder on the file system of `path`, whose parent exists; remove it after the block.

    What killed writers of `path` left there is removed first.

    Raises:
        OSError: it cannot be made.
    """
    sweep(path)
    folder, stream = _made(path)
    try:
        (folder / _NEW).mkdir()
        yield folder / _NEW
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(stream)
        # Windows removes no open file.
        shutil.rmtree(folder, ignore_errors=True)


def swap(new: Path, path: Path) -> None:
    """Put the folder `new`, which lies in a `staged` folder, at `path`; a folder there is moved aside first.

    If the process is killed in between, the next `sweep` puts the older folder back. If another writer puts its own
    folder there in between, that one is moved aside too: the last writer wins.

    Raises:
        OSError: it cannot be renamed; the older folder is back at `path` then.
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
                _put_back(aside, path)
                raise
    _put_back(aside, path)
    raise OSError("other processes keep writing it")


def sweep(path: Path) -> None:
    """Remove what killed writers of `path` left beside it. A folder that one had moved aside is put back.

    Where the system or the file system has no locks, nobody knows which writers live, and nothing is removed.
    """
    ours = re.compile(rf"\.{re.escape(path.name[:_NAME])}\.[a-z0-9_]{{8}}\.part")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _sweep(Path(entry.path))


def _made(path: Path) -> tuple[Path, int]:
    """A new folder beside `path`, and the descriptor of its lock.

    A sweep of another process can remove the folder before it is locked: then make another one.
    """
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:_NAME]}.", suffix=".part", dir=path.parent))
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            if (stream := locks.lock(folder / _LOCK, create=True)) is not None:
                return folder, stream
    raise OSError("other processes keep removing its temporary folder")


def _sweep(folder: Path) -> None:
    try:
        stream = locks.lock(folder / _LOCK, create=False)
    except FileNotFoundError:
        with contextlib.suppress(OSError):  # not empty, so not ours
            folder.rmdir()
        return
    except OSError:  # its writer lives, or nobody can know
        return
    if stream is None:  # another process has just removed it
        return
    try:
        for aside in (folder / _OLD).glob("*"):
            _put_back(aside, folder.parent / aside.name)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(stream)


def _put_back(aside: Path, path: Path) -> None:
    if not os.path.lexists(path):
        with contextlib.suppress(OSError):
            aside.rename(path)
