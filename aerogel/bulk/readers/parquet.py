"""Parquet files, read in small batches of the requested columns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aerogel.bulk.reader import Reader, Row, missing_column
from aerogel.errors import DataError, require

__all__ = ["READER"]

_BATCH_ROWS = 1024


class Parquet(Reader):
    """Rows of a Parquet file. Messages count rows from 1."""

    suffixes = (".parquet",)

    def read(self, path: Path, columns: Sequence[str]) -> Iterator[Row]:
        """See `Reader.read`."""
        with _opened(path) as file:
            self._check(path, file, columns)
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(dict.fromkeys(columns))):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, number, number)

    def size(self, path: Path) -> int | None:
        """Number of rows."""
        with _opened(path) as file:
            return int(file.metadata.num_rows)

    def types(self, path: Path, columns: Sequence[str]) -> Mapping[str, Any]:
        """Arrow types of columns."""
        with _opened(path) as file:
            self._check(path, file, columns)
            return {name: file.schema_arrow.field(name).type for name in columns}

    @staticmethod
    def _check(path: Path, file: Any, columns: Sequence[str]) -> None:
        for name in columns:
            if name not in file.schema_arrow.names:
                raise missing_column(str(path), name, file.schema_arrow.names)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file. Errors of Arrow in the block become DataErrors."""
    pa = require("pyarrow", "bulk")
    parquet = require("pyarrow.parquet", "bulk")
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{path}: cannot be read as Parquet ({reason}); check that the file is complete"
        ) from error


READER = Parquet()
