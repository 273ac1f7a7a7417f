"""Resolve output paths: a file to replace or a stream to write into, and the error if neither is possible."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aerogel.errors import AerogelError, OutputError

__all__ = ["Target", "file_target", "folder_target", "is_stream", "reported", "unwritable"]

# Symbolic links to follow, as many as Linux does.
_MAX_LINKS = 40
# Folders whose entries are the open descriptors of a process, after symbolic links are resolved.
_DESCRIPTORS = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd|/dev/fd")
_REMEDIES = {
    errno.ENOSPC: "free disk space or choose another path",
    errno.EDQUOT: "free disk space or choose another path",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or choose another path",
    errno.EACCES: "check its permissions or choose another path",
    errno.EPERM: "check its permissions or choose another path",
    errno.EROFS: "choose a path on a writable file system",
    errno.EPIPE: "keep its reader running",
}


@dataclass(frozen=True)
class Target:
    """Destination of an output file.

    Attributes:
        path: the absolute path, with symbolic links resolved.
        stream: True if the path is a character device, a pipe or an open descriptor, which is written into; False if
            it is a regular file, which is replaced as a whole, or does not exist yet.
        descriptor: number of the descriptor of this process that the path names, such as 1 for /dev/stdout.
    """

    path: Path
    stream: bool = False
    descriptor: int | None = None

    def check(self) -> None:
        """Raise PermissionError if this is a stream without write permission. Opens nothing."""
        if self.stream and self.descriptor is None and not os.access(self.path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def open(self) -> BinaryIO:
        """Open the stream for writing; opening a pipe waits for its reader."""
        if self.descriptor is None:
            return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND), "wb")
        # Flush earlier prints first. A duplicate descriptor shares the position in a redirected file.
        sys.stdout.flush()
        sys.stderr.flush()
        return os.fdopen(os.dup(self.descriptor), "wb")


def file_target(path: Path) -> Target:
    """Resolve the path of an output file. A dangling link is resolved to the missing file.

    Raises:
        OutputError: the path is a folder, a socket, a block device or a circular link.
        OSError: the path cannot be inspected.
    """
    given, path = path, path.absolute()
    for _ in range(_MAX_LINKS):
        path = Path(os.path.realpath(path.parent), path.name)
        descriptors = _DESCRIPTORS.fullmatch(str(path.parent))
        if descriptors and path.name.isdecimal() and os.path.lexists(path):
            own = descriptors[1] in (None, str(os.getpid()))
            return Target(path, stream=True, descriptor=int(path.name) if own else None)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    else:
        raise OutputError(f"{given} is a circular symbolic link; choose another path")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Target(path)
    if stat.S_ISDIR(mode):
        raise OutputError(f"{given} is a folder; name the file to write in it")
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        found = "socket" if stat.S_ISSOCK(mode) else "block device"
        raise OutputError(f"{given} is a {found}; name a file, a pipe or a character device")
    return Target(path, stream=not stat.S_ISREG(mode))


def folder_target(path: Path) -> Path:
    """Resolve the path of an output folder: absolute, with symbolic links resolved.

    Raises:
        OutputError: the path is a file, the current folder or one of its ancestors.
    """
    given, path = path, Path(os.path.realpath(path))
    # Folders are replaced as a whole, which would delete the current folder.
    if Path.cwd().is_relative_to(path):
        raise OutputError(f"{given} is or contains the current folder; choose another path")
    # lexists, because a circular link does not "exist" but blocks the path.
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{given} is a file; choose another name for the folder")
    return path


def is_stream(path: Path) -> bool:
    """Whether an output to `path` is written into a device, pipe or descriptor instead of replacing a file."""
    try:
        return file_target(path).stream
    except OSError:
        return False


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError for `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, AerogelError):
            raise
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """The OutputError for a failed write to `path`: the system's reason, and what to do."""
    reason = error.strerror or str(error)
    folder = next((parent for parent in path.absolute().parents if parent.exists()), None)
    if isinstance(error, FileNotFoundError) and error.filename and Path(error.filename).parent == folder:
        # The system says "no such file" in folders where no file can be created, such as /proc.
        reason = f"{folder} accepts no new files"
    remedy = _REMEDIES.get(error.errno or 0, "choose another path")
    return OutputError(f"{path} cannot be written ({reason}); {remedy}")
