"""Plain text: each line, empty ones included, is a row with the column "text"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from aerogel.bulk.reader import Reader, Row, take
from aerogel.errors import DataError
from aerogel.system.text import read_lines

__all__ = ["READER"]


class Lines(Reader):
    """Lines of text."""

    suffixes = (".txt", ".text")

    def read(self, path: Path, columns: Sequence[str]) -> Iterator[Row]:
        """See `Reader.read`."""
        for line in read_lines(path):
            if "\0" in line.text:
                raise DataError(f"{path}:{line.number}: contains a NUL byte; convert the file to UTF-8 text")
            yield Row(take(path, line.number, {"text": line.text}, columns), line.number, line.end)


READER = Lines()
