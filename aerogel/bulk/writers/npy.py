"""NumPy's .npy format, version 1.0: one float32 array ``[rows, dimensions]``."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bulk.method import Columns, Method
from aerogel.bulk.writer import Writer
from aerogel.errors import UsageError

__all__ = ["WRITER"]

# Bytes of the header, a multiple of 64; its text has at most 80 characters for any shape of 64-bit sizes.
_HEADER = 192
_MAGIC = b"\x93NUMPY\x01\x00"


class Npy(Writer):
    """The vectors of `embed`. The header has a fixed size, and is filled in at the end."""

    suffixes = (".npy",)
    header = bytes(_HEADER)

    def __init__(self, method: Method, kept: Mapping[str, Any]) -> None:
        super().__init__(method, kept)
        if method.vector is None:
            raise UsageError("--out: .npy stores one vector per row; write .jsonl or .parquet")
        if kept:
            raise UsageError("--keep: .npy stores vectors only; write .jsonl or .parquet, or remove --keep")

    def encode(self, columns: Columns, rows: int) -> bytes:  # noqa: ARG002 - the array has as many rows
        """See `Writer.encode`."""
        return np.ascontiguousarray(columns[str(self.method.vector)], "<f4").tobytes()

    def finish(self, spool: Path, folder: Path, rows: int) -> Path:  # noqa: ARG002 - changed in place
        """See `Writer.finish`."""
        width = (spool.stat().st_size - _HEADER) // (4 * rows)
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}"
        size = _HEADER - len(_MAGIC) - 2
        with spool.open("r+b") as stream:
            stream.write(_MAGIC + struct.pack("<H", size) + text.ljust(size - 1).encode("ascii") + b"\n")
        return spool


WRITER = Npy
