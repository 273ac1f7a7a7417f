"""Formats of input files, and what a row is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from aerogel.errors import DataError, UsageError
from aerogel.registry import Registry

__all__ = ["READERS", "Reader", "Row", "missing_column", "reader_for", "take"]


class Row(NamedTuple):
    """One row of an input file.

    Attributes:
        values: value of each requested column.
        number: line or row number from 1, for messages.
        end: bytes or rows of the file up to the end of this row, in the unit of `Reader.size`.
    """

    values: dict[str, Any]
    number: int
    end: int


class Reader(ABC):
    """One format of input files. A module of ``readers/`` defines ``READER``, an instance."""

    suffixes: ClassVar[tuple[str, ...]]
    """Suffixes of the file names, without ``.gz``."""

    @abstractmethod
    def read(self, path: Path, columns: Sequence[str]) -> Iterator[Row]:
        """Yield the rows of a file in constant memory.

        Args:
            path: the file.
            columns: names of the columns to return.

        Raises:
            DataError: the file cannot be read, is malformed or lacks a column; names the file and line.
            MissingExtraError: a package for this format is not installed.
        """

    def size(self, path: Path) -> int | None:
        """Bytes or rows of a file, for the progress bar; None if unknown."""
        regular = path.is_file() and path.suffix != ".gz"
        return path.stat().st_size if regular else None

    def types(self, path: Path, columns: Sequence[str]) -> Mapping[str, Any]:  # noqa: ARG002 - for subclasses
        """Arrow types of columns, if the file declares them."""
        return {}


READERS: Registry[Reader] = Registry("input format", "aerogel.bulk.readers", "READER")


def reader_for(path: Path, name: str | None) -> Reader:
    """The reader `name`, or the one for the suffix of a path.

    Raises:
        UsageError: the name is unknown, or no reader has the suffix; the message lists all.
    """
    if name is not None:
        return READERS.get(name)
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    for known in READERS.names():
        reader = READERS.get(known)
        if suffix.lower() in reader.suffixes:
            return reader
    raise UsageError(
        f"--in {path}: the suffix does not name a format; choose one with --format: {', '.join(READERS.names())}"
    )


def take(path: Path, number: int, found: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """The requested columns of a row.

    Raises:
        DataError: the row lacks a column; names the file, the line and the columns that there are.
    """
    try:
        return {name: found[name] for name in columns}
    except KeyError as error:
        raise missing_column(f"{path}:{number}", str(error.args[0]), found) from error


def missing_column(where: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> DataError:
    """The error for a column that does not exist."""
    names = ", ".join(list(known)[:20]) or "none"
    return DataError(f"{where}: no column {name!r}; choose with --column or --keep from: {names}")
