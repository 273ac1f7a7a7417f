"""Lines of text files that come from outside: UTF-8, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from aerogel.errors import DataError

__all__ = ["decode", "decode_lines", "read_bytes"]


def read_bytes(path: Path) -> bytes:
    """Content of a file, unpacked if its name ends in .gz.

    Raises:
        DataError: the file is missing, cannot be read, or is not what gzip wrote.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); see that it is there and whole") from error


def decode(path: Path, content: bytes) -> str:
    """Text of the `content` of `path`, without a byte order mark.

    Raises:
        DataError: the content is not UTF-8; names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error


def decode_lines(path: Path, content: bytes) -> list[str]:
    """Lines of the `content` of `path`, without their ends (LF or CR LF) and without a byte order mark.

    Raises:
        DataError: the content is not UTF-8; names the line.
    """
    text = decode(path, content)
    # str.splitlines would also split at characters that occur inside sentences, such as U+2028.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.rstrip("\r") for line in lines]
