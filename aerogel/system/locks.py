"""Locks between processes, which the system takes away from a process that is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from aerogel.errors import UsageError
from aerogel.system.outputs import reported

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = ["claimed", "held", "lock"]

_LOCKS: bool = fcntl is not None
# Each lost turn means that another run has ended at that very moment.
_TRIES = 100


@contextlib.contextmanager
def claimed(path: Path, flag: str) -> Iterator[None]:
    """Refuse `path` to every other process that claims it while the block runs; nothing there is touched.

    The claim is a lock on an empty file beside `path`. Where the system or the file system has no locks, nobody is
    refused.

    Args:
        path: what is claimed; it need not exist.
        flag: the flag that names it, for the message.

    Raises:
        UsageError: another process has claimed it.
        OutputError: nothing can be written beside it.
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
                    f"{flag} {path}: another run is writing it; wait for its end or choose another {flag}"
                ) from error
        yield
    finally:
        if stream is not None:
            _release(file, stream)
        with contextlib.suppress(OSError):  # something was written there
            for parent in missing:
                parent.rmdir()


def lock(file: Path, *, create: bool) -> int | None:
    """Open `file` and lock it.

    Returns:
        The descriptor; closing it unlocks the file. None if another process removed the file meanwhile.

    Raises:
        BlockingIOError: another process has locked it.
        FileNotFoundError: there is no such file, or no folder to create it in.
        OSError: it cannot be opened, or without `create`, nothing there can be locked.
    """
    stream = os.open(file, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
    try:
        if not held(stream) and not create:
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


def held(stream: int) -> bool:
    """Lock an open file; False where the system or the file system has no locks.

    Raises:
        BlockingIOError: another process has locked it.
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
    """Create and lock `file`. A run that ends at that moment removes it, and maybe its folder: then try again."""
    lost = FileNotFoundError(f"{file.name} is removed again and again")
    for _ in range(_TRIES):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = lock(file, create=True)
        except FileNotFoundError as error:
            lost = error
            continue
        if stream is not None:
            return stream
    raise lost


def _release(file: Path, stream: int) -> None:
    """Remove the file while it is locked, so that nobody waits for a removed file; Windows removes no open one."""
    if not _LOCKS:
        os.close(stream)
    with contextlib.suppress(OSError):
        file.unlink()
    if _LOCKS:
        os.close(stream)
