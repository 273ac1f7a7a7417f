"""Cut the rows of all inputs into windows, the unit of work, of output and of resuming."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aerogel.bulk.reader import Reader, Row
from aerogel.errors import DataError, UsageError
from aerogel.model.texts import check_text

__all__ = ["Source", "Window", "windows"]

# Characters of text in a window, so that long documents do not fill the memory.
_WINDOW_CHARACTERS = 8 << 20
# Longest text in characters, as long as a line of a text file may be in bytes.
_MAX_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Source:
    """The input files of a job.

    Attributes:
        files: reader and path of each file.
        columns: one or two columns of text.
        keep: columns to copy to the output.
    """

    files: Sequence[tuple[Reader, Path]]
    columns: Sequence[str]
    keep: Sequence[str] = ()


class Window(NamedTuple):
    """Consecutive rows.

    Attributes:
        rows: strings, or pairs of strings.
        where: file and line of each row.
        kept: values of the columns to copy.
        digest: SHA-256 of the values of all rows up to the end of this window.
        done: fraction of the inputs up to there, or None if a size is unknown.
    """

    rows: list[Any]
    where: list[str]
    kept: dict[str, list[Any]]
    digest: str
    done: float | None


def windows(source: Source, size: int) -> Iterator[Window]:
    """Yield all rows in windows of at most `size` rows; where a window ends depends on the rows only.

    Raises:
        DataError: an input is malformed, or a text is not a string or too long; names the file and line.
    """
    digest = hashlib.sha256()
    rows: list[Any] = []
    where: list[str] = []
    kept: dict[str, list[Any]] = {name: [] for name in source.keep}
    characters, done = 0, None
    for path, row, done in _rows(source):
        place = f"{path}:{row.number}"
        texts = tuple(_text(place, name, row.values[name]) for name in source.columns)
        if rows and (len(rows) == size or characters + sum(map(len, texts)) > _WINDOW_CHARACTERS):
            yield Window(rows, where, kept, digest.hexdigest(), done)
            rows, where, kept, characters = [], [], {name: [] for name in source.keep}, 0
        rows.append(texts[0] if len(texts) == 1 else texts)
        where.append(place)
        characters += sum(map(len, texts))
        for name in source.keep:
            kept[name].append(row.values[name])
        digest.update(repr((texts, [row.values[name] for name in source.keep])).encode("utf-8", "replace"))
    if rows:
        yield Window(rows, where, kept, digest.hexdigest(), done)


def _rows(source: Source) -> Iterator[tuple[Path, Row, float | None]]:
    """Path, row and fraction done of each row of all files."""
    wanted = list(dict.fromkeys([*source.columns, *source.keep]))
    for index, (reader, path) in enumerate(source.files):
        size = reader.size(path)
        for row in reader.read(path, wanted):
            done = None if not size else (index + min(1.0, row.end / size)) / len(source.files)
            yield path, row, done


def _text(place: str, name: str, value: Any) -> str:
    try:
        check_text(value, f"column {name!r}")
    except UsageError as error:
        raise DataError(f"{place}: {error}; correct the row, or choose another column") from error
    if len(value) > _MAX_CHARACTERS:
        raise DataError(
            f"{place}: column {name!r} has {len(value):,} characters; the limit is {_MAX_CHARACTERS:,}"
        )
    return str(value)
