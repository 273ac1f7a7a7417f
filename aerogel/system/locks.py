"""Locks between processes. The system releases the locks of a process that is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from aerogel.errors import UsageError
from aerogel.system.outputs import reported

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["claimed", "lock", "try_lock"]

_LOCKS: bool = fcntl is not None
# Each failed attempt means that another run ended at that moment.
_TRIES = 100


@contextlib.contextmanager
def claimed(path: Path, flag: str) -> Iterator[None]:
    """Claim an output path for this process while the block runs.

    The claim is a lock on an empty file next to `path`; `path` itself is not touched and need not exist. On systems and
    file systems without locks, every claim succeeds.

    Args:
        path: the path to claim.
        flag: command line flag for `path`, for the message.

    Raises:
        UsageError: another process has claimed `path`.
        OutputError: the lock file cannot be written.
    """
    file = path.absolute().with_name(f".{path.name}.lock")
    missing = [parent for parent in file.parents if not parent.exists()]
    stream = None
    try:
        with reported(path):
            try:
                stream = _claim(file)
            except BlockingIOError as error:
                raise UsageError(
                    f"{flag} {path}: another run is writing it; wait until it ends or choose another {flag}"
                ) from error
        yield
    finally:
        if stream is not None:
            _release(file, stream)
        with contextlib.suppress(OSError):  # not empty: something was written there
            for parent in missing:
                parent.rmdir()


def lock(file: Path, *, create: bool) -> int | None:
    """Open `file` and lock it.

    Returns:
        The file descriptor, which unlocks the file when closed; None if another process removed the file meanwhile.

    Raises:
        BlockingIOError: another process has locked the file.
        FileNotFoundError: the file, or with `create` its folder, does not exist.
        OSError: the file cannot be opened or, without `create`, its file system has no locks.
    """
    stream = os.open(file, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
    try:
        if not try_lock(stream) and not create:
            raise OSError(f"{file} is on a file system without locks")
        if os.path.samestat(os.fstat(stream), file.stat()):
            return stream
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(stream)
        raise
    os.close(stream)
    return None


def try_lock(stream: int) -> bool:
    """Lock an open file; returns False if the system or the file system has no locks.

    Raises:
        BlockingIOError: another process has locked the file.
    """
    if not _LOCKS:
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _claim(file: Path) -> int:
    """Create and lock `file`. Retry if a run that ends at that moment removes the file or its folder."""
    failure = FileNotFoundError(f"other processes keep removing {file.name}")
    for _ in range(_TRIES):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = lock(file, create=True)
        except FileNotFoundError as error:
            failure = error
            continue
        if stream is not None:
            return stream
    raise failure


def _release(file: Path, stream: int) -> None:
    """Remove the file while it is locked, so that no process locks a removed file; Windows cannot remove open files."""
    if not _LOCKS:
        os.close(stream)
    with contextlib.suppress(OSError):
        file.unlink()
    if _LOCKS:
        os.close(stream)
