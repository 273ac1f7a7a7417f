"""Writing files so that a reader, a crash or a full disk never meets half of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from aerogel.errors import AerogelError, OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_directory", "atomic_file", "check_output", "claimed", "sha256"]

_LOCKS: bool = fcntl is not None
# Each turn lost means that another run has ended at that very moment.
_TRIES = 100


def check_output(path: Path, *, folder: bool = False) -> None:
    """Ask, before the work whose result goes there, whether a file or `folder` can be put at `path`.

    Raises:
        OutputError: it is a folder where a file is meant or the other way round, it holds the current folder, or
            nothing can be written beside it.
    """
    with _reported(path):
        path = _target(path, folder)
        home = next(parent for parent in path.parents if parent.exists())
        _remove(_fresh(home / path.name, folder))


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds, else delete it.

    Raises:
        OutputError: the file cannot be written. Any OSError of the block counts as that.
    """
    with _reported(path):
        path = _target(path, folder=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _fresh(path, folder=False)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; put it in the place of `path` if the block succeeds.

    An existing directory is moved aside first and removed only after the new one stands in its place, so that
    a failure at any moment leaves either the old or the new content under `path` or under its `.old` neighbour.
    Where `path` is a symbolic link, all this happens to what it points at.

    Raises:
        OutputError: the directory cannot be written. Any OSError of the block counts as that.
    """
    with _reported(path):
        path = _target(path, folder=True)
        old = path.with_name(f".{path.name}.old")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _fresh(path, folder=True)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def claimed(path: Path, flag: str) -> Iterator[None]:
    """Keep every other process that asks for it from `path` while the block runs; nothing there is touched.

    Held by a lock on an empty file beside it, which the system takes away from a process that is killed. Where the
    system or the file system has no locks, everybody is let in.

    Args:
        path: what is claimed; it need not exist.
        flag: that names it, for the message.

    Raises:
        UsageError: another process has it.
        OutputError: nothing can be written beside it.
    """
    lock = path.absolute().with_name(f".{path.name}.lock")
    missing = [parent for parent in lock.parents if not parent.exists()]
    stream = None
    try:
        with _reported(path):
            try:
                stream = _locked(lock)
            except BlockingIOError as error:
                raise UsageError(
                    f"{flag} {path}: another run is writing it; wait for its end or choose another {flag}"
                ) from error
        yield
    finally:
        if stream is not None:
            _unlocked(lock, stream)
        with contextlib.suppress(OSError):  # something was written there
            for parent in missing:
                parent.rmdir()


def _locked(lock: Path) -> int:
    """The file `lock`, opened and locked.

    Whoever had it before may have removed it after it was opened here, and its folder too: then it is made anew.

    Raises:
        BlockingIOError: another process has it.
        OSError: it cannot be made.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            stream = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
            if not _LOCKS:
                return stream
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(stream)
                raise
            except OSError:
                return stream  # a file system without locks
            try:
                if os.path.samestat(os.fstat(stream), lock.stat()):
                    return stream
            except FileNotFoundError:
                pass
            os.close(stream)
    raise FileNotFoundError(f"{lock.name} is removed again and again")


def _unlocked(lock: Path, stream: int) -> None:
    """Remove the file while it is locked, so that nobody waits for what is gone; Windows removes no open one."""
    if not _LOCKS:
        os.close(stream)
    with contextlib.suppress(OSError):
        lock.unlink()
    if _LOCKS:
        os.close(stream)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn what the system says about writing `path` into an error of ours."""
    try:
        yield
    except OSError as error:
        if isinstance(error, AerogelError):
            raise
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}); choose another place or make room"
        ) from error


def _target(path: Path, folder: bool) -> Path:
    """`path` as it can be renamed onto: absolute, and for a folder with symbolic links followed."""
    if not folder:
        path = path.absolute()
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name the file to write in it")
        return path
    path = Path(os.path.realpath(path))
    # A folder is replaced as a whole, and whoever stands in it would stand in the deleted one.
    if Path.cwd().is_relative_to(path):
        raise OutputError(f"{path} is, or holds, the current folder; choose another")
    # A link that leads in a circle does not exist, but is in the way.
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{path} is a file; choose another name for the folder")
    return path


def _fresh(path: Path, folder: bool) -> Path:
    """A new empty file or folder beside `path`.

    Its name is always the same, so that what a killed process left there is not left for good.
    """
    temporary = path.with_name(f".{path.name}.part")
    _remove(temporary)
    if folder:
        temporary.mkdir()
    else:
        temporary.touch(exist_ok=False)
    return temporary


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Bring a file to the disk, with the permissions any new file would have: some libraries make private ones."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
