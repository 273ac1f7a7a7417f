"""What the path of an output names: a file to replace, or a stream to write into; and why it cannot be written."""

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

# As many links as Linux follows.
_LINKS = 40
# The folders whose entries are the open descriptors of a process, symbolic links followed.
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
    """Where the bytes of an output file go.

    Attributes:
        path: the absolute path, symbolic links followed.
        stream: the path is a character device, a pipe or an open descriptor: bytes are written into it. Otherwise it
            is a regular file, or nothing yet, and is replaced as a whole.
        descriptor: the number of the descriptor of this process that the path names, such as 1 for /dev/stdout.
    """

    path: Path
    stream: bool = False
    descriptor: int | None = None

    def check(self) -> None:
        """Raise PermissionError if this is a stream that may not be written to. Nothing is opened."""
        if self.stream and self.descriptor is None and not os.access(self.path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def open(self) -> BinaryIO:
        """Open a stream for writing; a pipe waits for its reader."""
        if self.descriptor is None:
            return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND), "wb")
        # What is printed so far comes first. A second descriptor shares the position in a redirected file.
        sys.stdout.flush()
        sys.stderr.flush()
        return os.fdopen(os.dup(self.descriptor), "wb")


def file_target(path: Path) -> Target:
    """What the output file `path` names. A dangling link names the file that it points at.

    Raises:
        OutputError: it is a folder, a socket, a block device, or a link that leads in a circle.
        OSError: it cannot be looked at.
    """
    asked, path = path, path.absolute()
    for _ in range(_LINKS):
        path = Path(os.path.realpath(path.parent), path.name)
        descriptors = _DESCRIPTORS.fullmatch(str(path.parent))
        if descriptors and path.name.isdecimal() and os.path.lexists(path):
            own = descriptors[1] in (None, str(os.getpid()))
            return Target(path, stream=True, descriptor=int(path.name) if own else None)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    else:
        raise OutputError(f"{asked} is a symbolic link that leads in a circle; choose another path")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Target(path)
    if stat.S_ISDIR(mode):
        raise OutputError(f"{asked} is a folder; name the file to write in it")
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        kind = "socket" if stat.S_ISSOCK(mode) else "block device"
        raise OutputError(f"{asked} is a {kind}; name a file, a pipe or a character device")
    return Target(path, stream=not stat.S_ISREG(mode))


def folder_target(path: Path) -> Path:
    """The absolute path of the output folder `path`, symbolic links followed.

    Raises:
        OutputError: it is a file, or it is or contains the current folder.
    """
    asked, path = path, Path(os.path.realpath(path))
    # A folder is replaced as a whole: the current folder would be deleted with it.
    if Path.cwd().is_relative_to(path):
        raise OutputError(f"{asked} is or contains the current folder; choose another path")
    # A link that leads in a circle does not exist, but is in the way.
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{asked} is a file; choose another name for the folder")
    return path


def is_stream(path: Path) -> bool:
    """Whether an output to `path` is written into it and replaces nothing: a device, a pipe, a descriptor."""
    try:
        return file_target(path).stream
    except OSError:
        return False


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into the OutputError that says why `path` cannot be written."""
    try:
        yield
    except OSError as error:
        if isinstance(error, AerogelError):
            raise
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error to raise where the system refuses to write `path`: its reason, and what to do about it."""
    reason = error.strerror or str(error)
    home = next((parent for parent in path.absolute().parents if parent.exists()), None)
    if isinstance(error, FileNotFoundError) and error.filename and Path(error.filename).parent == home:
        # "No such file" is what the system says where nobody can make one, as in /proc.
        reason = f"{home} accepts no new files"
    remedy = _REMEDIES.get(error.errno or 0, "choose another path")
    return OutputError(f"{path} cannot be written ({reason}); {remedy}")
