"""Text files that come from outside: UTF-8, plain or gzipped, read in constant memory or up to a bound."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from aerogel.errors import DataError

__all__ = ["Digest", "Line", "decode", "read_bytes", "read_lines"]

_LONGEST_LINE = 1 << 20
# Bytes of a file that is kept in memory. The largest file of a known task has less than a tenth of them.
_LARGEST = 1 << 30
# A line that is kept costs so many bytes more: without them, a file of empty lines would fill the memory.
_PER_LINE = 64
# Text packs to a tenth of its size or so. A file that unpacks to fifty times its size was made to fill the memory;
# a small one cannot.
_GROWTH = 50
_SMALL = 64 << 20


class Digest(Protocol):
    """What `read_lines` feeds with the bytes of a file, such as ``hashlib.sha256()``."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""


class Line(NamedTuple):
    """One line of a file.

    Attributes:
        start: unpacked bytes before it.
        end: unpacked bytes before the next line.
        number: counted from 1.
        text: without its end (LF or CR LF) and without a byte order mark.
    """

    start: int
    end: int
    number: int
    text: str


class _Bound:
    """How many bytes may be read from a file.

    Args:
        path: the file.
        whole: the reader keeps what it reads in memory.

    Raises:
        OSError: the file is missing.
    """

    def __init__(self, path: Path, *, whole: bool) -> None:
        self.path, self.whole = path, whole
        packed = path.suffix == ".gz"
        self.unpacked = max(_SMALL, _GROWTH * path.stat().st_size) if packed else None

    def check(self, size: int, lines: int = 0) -> None:
        """Compare what was read so far, `size` unpacked bytes in `lines` lines, with the bound.

        Raises:
            DataError: it is more; names the file and the bound.
        """
        if self.unpacked is not None and size > self.unpacked:
            raise DataError(
                f"{self.path} unpacks to more than {self.unpacked:,} bytes, which no text of its packed size does; "
                "check where the file is from, or unpack it yourself"
            )
        if self.whole and size + _PER_LINE * lines > _LARGEST:
            raise DataError(
                f"{self.path} is larger than {_LARGEST:,} bytes, counting {_PER_LINE} more for each line; "
                "give a smaller file"
            )


def read_bytes(path: Path) -> bytes:
    """Content of a file, unpacked if its name ends in .gz.

    Raises:
        DataError: the file is missing, cannot be read, is not what gzip wrote, or has more bytes than may be kept in
            memory.
    """
    parts, size = [], 0
    with _opened(path, whole=True) as (stream, bound):
        while part := stream.read(1 << 20):
            size += len(part)
            bound.check(size)
            parts.append(part)
    return b"".join(parts)


def decode(path: Path, content: bytes) -> str:
    """Text of the `content` of `path`, without a byte order mark.

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
    """Lines of a file, one at a time; a name that ends in .gz is unpacked. Only line feeds end a line.

    Args:
        path: the file.
        offset: unpacked bytes to skip.
        number: lines in these bytes.
        whole: the caller keeps the lines in memory.
        digest: is fed with all bytes that are read, unpacked.

    Raises:
        DataError: the file cannot be read, is not UTF-8, has more bytes than its bound, or a line of more than 1 MiB;
            names the file, and the line.
    """
    with _opened(path, whole=whole) as (stream, bound):
        stream.seek(offset)
        while raw := stream.readline(_LONGEST_LINE + 1):
            number += 1
            if len(raw) > _LONGEST_LINE:
                raise DataError(f"{path}:{number}: more than 1 MiB in a line; break it into several lines")
            bound.check(offset + len(raw), number)
            if digest is not None:
                digest.update(raw)
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, error) from error
            yield Line(offset, offset + len(raw), number, text.removesuffix("\n").rstrip("\r"))
            offset += len(raw)


@contextlib.contextmanager
def _opened(path: Path, *, whole: bool) -> Iterator[tuple[IO[bytes] | gzip.GzipFile, _Bound]]:
    """The unpacked bytes of a file as a stream, and how many may be read. Errors of the system become a DataError."""
    try:
        bound = _Bound(path, whole=whole)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield stream, bound
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); check its path and permissions, and that the file is complete"
        ) from error


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    return DataError(f"{path}:{line}: not UTF-8 ({error.reason}); convert the file to UTF-8")
