"""Values separated by a character, with a header line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from aerogel.bulk.reader import Reader, Row, missing_column, take
from aerogel.errors import DataError
from aerogel.system.text import read_lines

__all__ = ["Separated"]

# Largest number of characters of a value; quoted values may span lines, whose length `read_lines` limits.
_MAX_VALUE = 1 << 20


class Separated(Reader):
    """Lines of values.

    Args:
        suffixes: suffixes of the file names.
        separator: character between two values.
        quoted: whether a value in double quotes may contain separators and line ends.
    """

    def __init__(self, suffixes: tuple[str, ...], separator: str, *, quoted: bool) -> None:
        self.suffixes = suffixes  # type: ignore[misc]
        self._separator = separator
        self._quoted = quoted

    def read(self, path: Path, columns: Sequence[str]) -> Iterator[Row]:
        """See `Reader.read`. The first line names the columns; every row has as many values."""
        end = 0

        def lines() -> Iterator[str]:
            nonlocal end
            for line in read_lines(path):
                if "\0" in line.text:
                    raise DataError(
                        f"{path}:{line.number}: contains a NUL byte; convert the file to UTF-8 text"
                    )
                end = line.end
                yield line.text + "\n"

        # The limit is one of the module; its default of 131,072 characters is below what a document may have.
        csv.field_size_limit(_MAX_VALUE)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._quoted else csv.QUOTE_NONE
        rows = csv.reader(lines(), delimiter=self._separator, quoting=quoting, strict=True)
        try:
            names = next(rows, None)
            if names is None:
                return
            if len(set(names)) < len(names):
                raise DataError(f"{path}:1: the header repeats a column; rename it")
            for name in columns:
                if name not in names:
                    raise missing_column(f"{path}:1", name, names)
            for values in rows:
                if not values:
                    continue
                if len(values) != len(names):
                    raise DataError(
                        f"{path}:{rows.line_num}: {len(values)} values, but the header has {len(names)}; "
                        "correct the line or its quotes"
                    )
                found = dict(zip(names, values, strict=True))
                yield Row(take(path, rows.line_num, found, columns), rows.line_num, end)
        except csv.Error as error:
            raise DataError(f"{path}:{rows.line_num}: {error}; correct the quotes of the value") from error
