"""Read untrusted text files, UTF-8 and plain or gzipped, in constant memory or up to a size limit."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from aerogel.errors import DataError

__all__ = ["Digest", "Line", "decode", "read_bytes", "read_lines"]

_MAX_LINE = 1 << 20
# Largest file, in bytes, that is kept in memory: ten times the largest file of a known task.
_MAX_BYTES = 1 << 30
# Extra bytes for each line in memory; without them, a file of empty lines could exhaust the memory.
_LINE_OVERHEAD = 64
# Text compresses to about a tenth of its size. A file that unpacks to more than 50 times its size, and to more than
# 64 MiB, was made to exhaust the memory.
_MAX_RATIO = 50
_MIN_LIMIT = 64 << 20


class Digest(Protocol):
    """A hash that `read_lines` updates with the bytes of a file, such as ``hashlib.sha256()``."""

    def update(self, data: bytes, /) -> None:
        """Add the next bytes."""


class Line(NamedTuple):
    """One line of a file.

    Attributes:
        start: unpacked bytes before it.
        end: unpacked bytes before the next line.
        number: line number from 1.
        text: the line without its end (LF or CR LF) and without a byte order mark.
    """

    start: int
    end: int
    number: int
    text: str


class _Limit:
    """Limit on the bytes to read from a file.

    Args:
        path: the file.
        whole: whether the reader keeps the content in memory.

    Raises:
        OSError: the file is missing.
    """

    def __init__(self, path: Path, *, whole: bool) -> None:
        self.path, self.whole = path, whole
        packed = path.suffix == ".gz"
        self.unpacked = max(_MIN_LIMIT, _MAX_RATIO * path.stat().st_size) if packed else None

    def check(self, size: int, lines: int = 0) -> None:
        """Check the bytes read so far.

        Args:
            size: unpacked bytes.
            lines: lines in these bytes.

        Raises:
            DataError: they exceed the limit; names the file and the limit.
        """
        if self.unpacked is not None and size > self.unpacked:
            raise DataError(
                f"{self.path} unpacks to more than {self.unpacked:,} bytes, too many for text of its packed size; "
                "check the source of the file, or unpack it yourself"
            )
        if self.whole and size + _LINE_OVERHEAD * lines > _MAX_BYTES:
            raise DataError(
                f"{self.path} is larger than {_MAX_BYTES:,} bytes, counting {_LINE_OVERHEAD} more for each line; "
                "give a smaller file"
            )


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacked if its name ends in .gz.

    Raises:
        DataError: the file cannot be read, is not valid gzip, or is too large to keep in memory.
    """
    parts, size = [], 0
    with _open(path, whole=True) as (stream, limit):
        while part := stream.read(1 << 20):
            size += len(part)
            limit.check(size)
            parts.append(part)
    return b"".join(parts)


def decode(path: Path, content: bytes) -> str:
    """Decode the `content` of `path`, without a byte order mark.

    Raises:
        DataError: the content is not UTF-8; names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, content.count(b"\n", 0, error.start) + 1, error) from error


def read_lines(
    path: Path, offset: int = 0, number: int = 0, *, whole: bool = False, digest: Digest | None = None
) -> Iterator[Line]:
    """Yield the lines of a file, which is unpacked if its name ends in .gz. Only line feeds end a line.

    Args:
        path: the file.
        offset: unpacked bytes to skip.
        number: lines in these bytes.
        whole: whether the caller keeps the lines in memory.
        digest: hash to update with all unpacked bytes that are read.

    Raises:
        DataError: the file cannot be read, is not UTF-8, exceeds its limit or has a line longer than 1 MiB; names the
            file and the line.
    """
    with _open(path, whole=whole) as (stream, limit):
        if offset:  # pipes cannot seek
            stream.seek(offset)
        while raw := stream.readline(_MAX_LINE + 1):
            number += 1
            if len(raw) > _MAX_LINE:
                raise DataError(f"{path}:{number}: more than 1 MiB in a line; break it into several lines")
            limit.check(offset + len(raw), number)
            if digest is not None:
                digest.update(raw)
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, error) from error
            yield Line(offset, offset + len(raw), number, text.removesuffix("\n").rstrip("\r"))
            offset += len(raw)


@contextlib.contextmanager
def _open(path: Path, *, whole: bool) -> Iterator[tuple[IO[bytes] | gzip.GzipFile, _Limit]]:
    """Open a file as a stream of unpacked bytes, with its limit. System errors become DataErrors."""
    try:
        limit = _Limit(path, whole=whole)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield stream, limit
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); check the path, its permissions and that the file is complete"
        ) from error


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    return DataError(f"{path}:{line}: not UTF-8 ({error.reason}); convert the file to UTF-8")
