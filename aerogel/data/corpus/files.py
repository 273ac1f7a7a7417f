"""Text files read line by line, from any place in them, in constant memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aerogel.errors import DataError, UsageError

__all__ = ["Line", "read_lines", "text_files"]

_LONGEST = 1 << 20


class Line(NamedTuple):
    """One line, without its end.

    Attributes:
        start: bytes in front of it, unpacked.
        end: bytes up to the beginning of the next.
        number: counted from 1.
        text: what it says.
    """

    start: int
    end: int
    number: int
    text: str


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves and all files below the directories, hidden ones left out; sorted within each directory.

    Raises:
        UsageError: a path does not exist, is given twice, or a directory has no files.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
            files = [path / file for file in sorted(inside) if not any(p.startswith(".") for p in file.parts)]
            if not files:
                raise UsageError(f"--text {path} has no files; give the directory of the text")
            found += files
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"--text {path} is neither a file nor a directory")
    seen: set[Path] = set()
    for file in found:
        if file.resolve() in seen:
            raise UsageError(f"--text {file} is given twice; name each file once")
        seen.add(file.resolve())
    return found


def read_lines(path: Path, offset: int = 0, number: int = 0) -> Iterator[Line]:
    """Lines from byte `offset` (unpacked) on, in front of which there are `number` lines; ``.gz`` is unpacked.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or has a line of more than 1 MiB; names file and line.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            stream.seek(offset)
            while raw := stream.readline(_LONGEST + 1):
                number += 1
                if len(raw) > _LONGEST:
                    raise DataError(f"{path}:{number}: more than 1 MiB in a line; break the text into lines")
                yield Line(offset, offset + len(raw), number, _decode(path, number, raw))
                offset += len(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); see that it is there and whole") from error


def _decode(path: Path, number: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
