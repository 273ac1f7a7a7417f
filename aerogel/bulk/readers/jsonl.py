"""JSON lines: one object per line; empty lines are skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from aerogel.bulk.reader import Reader, Row, take
from aerogel.errors import DataError
from aerogel.system.json_fields import MalformedJsonError, check, parse
from aerogel.system.text import read_lines

__all__ = ["READER"]


class JsonLines(Reader):
    """Objects, one per line."""

    suffixes = (".jsonl", ".ndjson")

    def read(self, path: Path, columns: Sequence[str]) -> Iterator[Row]:
        """See `Reader.read`."""
        for line in read_lines(path):
            if not line.text.strip():
                continue
            try:
                found = check(parse(line.text), dict)
            except MalformedJsonError as error:
                raise DataError(f"{path}:{line.number}: {error}; correct the line") from error
            yield Row(take(path, line.number, found, columns), line.number, line.end)


READER = JsonLines()
