"""JSON lines: one object per row, with the kept columns first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aerogel.bulk.method import Columns, Method
from aerogel.bulk.writer import Writer
from aerogel.errors import DataError, require

__all__ = ["WRITER"]


class JsonLines(Writer):
    """Objects, one per line. float32 values have the fewest digits that give the same float32; NaN becomes null."""

    suffixes = (".jsonl", ".ndjson")
    streams = True

    def __init__(self, method: Method, kept: Mapping[str, Any]) -> None:
        super().__init__(method, kept)
        require("orjson", "bulk")

    def encode(self, columns: Columns, rows: int) -> bytes:
        """See `Writer.encode`."""
        orjson = require("orjson", "bulk")
        option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        names = list(columns)
        lines = []
        for row in range(rows):
            item = {name: columns[name][row] for name in names}
            try:
                lines.append(orjson.dumps(item, option=option))
            except TypeError as error:
                raise DataError(
                    f"--keep: a value of {', '.join(self.kept)} cannot be stored in JSON ({error}); "
                    "write .parquet or keep other columns"
                ) from error
        return b"".join(lines)


WRITER = JsonLines
