"""Parquet, with row groups of several windows."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bulk.method import Columns, Method
from aerogel.bulk.writer import Writer
from aerogel.errors import DataError, require

__all__ = ["WRITER"]

# Before each window in the spool: the size of its Arrow stream in bytes.
_SIZE = struct.Struct("<Q")
# Size of a row group: bytes in the spool, and rows.
_GROUP_BYTES = 32 << 20
_GROUP_ROWS = 1 << 20


class Parquet(Writer):
    """The spool has an Arrow stream per window, because a Parquet file cannot be continued after a kill.

    Kept columns of inputs without types are text: strings as they are, other values as JSON.
    """

    suffixes = (".parquet",)

    def __init__(self, method: Method, kept: Mapping[str, Any]) -> None:
        super().__init__(method, kept)
        require("pyarrow", "bulk")

    def encode(self, columns: Columns, rows: int) -> bytes:  # noqa: ARG002 - the columns have as many values
        """See `Writer.encode`."""
        pa = require("pyarrow", "bulk")
        schema = self._schema(pa)
        arrays = [self._array(pa, field.name, field.type, columns[field.name]) for field in schema]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(pa.record_batch(arrays, schema=schema))
        data: bytes = sink.getvalue().to_pybytes()
        return _SIZE.pack(len(data)) + data

    def finish(self, spool: Path, folder: Path, rows: int) -> Path:  # noqa: ARG002 - counted by the windows
        """See `Writer.finish`."""
        pa = require("pyarrow", "bulk")
        parquet = require("pyarrow.parquet", "bulk")
        path = folder / "finished.parquet"
        with (
            spool.open("rb") as stream,
            parquet.ParquetWriter(
                path, self._schema(pa), use_dictionary=self.method.vector is None
            ) as writer,
        ):
            tables, size = [], 0
            while head := stream.read(_SIZE.size):
                data = stream.read(_SIZE.unpack(head)[0])
                with pa.ipc.open_stream(data) as batches:
                    tables.append(batches.read_all())
                size += len(data)
                if size >= _GROUP_BYTES:
                    writer.write_table(pa.concat_tables(tables), row_group_size=_GROUP_ROWS)
                    tables, size = [], 0
            if tables:
                writer.write_table(pa.concat_tables(tables), row_group_size=_GROUP_ROWS)
        return path

    def _schema(self, pa: Any) -> Any:
        kept = {name: pa.string() if kind is None else kind for name, kind in self.kept.items()}
        return pa.schema(list({**kept, **self.method.types(pa)}.items()))

    def _array(self, pa: Any, name: str, kind: Any, values: Any) -> Any:
        if isinstance(values, np.ndarray) and values.ndim == 2:
            offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
            return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(values).ravel())
        if name in self.kept and self.kept[name] is None:
            return pa.array(_texts(values), kind)
        if pa.types.is_list(kind) and pa.types.is_list(kind.value_type):
            values = [list(value) for value in values]
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise DataError(
                f"--keep {name}: a value cannot be stored as {kind} ({error}); remove it"
            ) from error


def _texts(values: Sequence[Any]) -> list[str | None]:
    return [
        value
        if value is None or isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, allow_nan=False)
        for value in values
    ]


WRITER = Parquet
