"""Formats of output files: an append-only spool while the job runs, and the finished file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from aerogel.bulk.method import Columns, Method
from aerogel.errors import UsageError
from aerogel.registry import Registry
from aerogel.system.outputs import is_stream

__all__ = ["WRITERS", "Writer", "writer_for"]


class Writer(ABC):
    """One format of output files. A module of ``writers/`` defines ``WRITER``, a subclass.

    Args:
        method: the method whose results are written.
        kept: columns copied from the input: the Arrow type of each, or None if the input declares none.

    Raises:
        UsageError: the format cannot store the results; says which formats can.
        MissingExtraError: a package for this format is not installed.
    """

    suffixes: ClassVar[tuple[str, ...]]
    """Suffixes of the file names."""

    header: ClassVar[bytes] = b""
    """First bytes of the spool."""

    streams: ClassVar[bool] = False
    """Whether the spool without its header is a finished file, which can be written into a pipe."""

    def __init__(self, method: Method, kept: Mapping[str, Any]) -> None:
        self.method, self.kept = method, kept

    @abstractmethod
    def encode(self, columns: Columns, rows: int) -> bytes:
        """Bytes to append to the spool for `rows` rows; may be called from several threads.

        Raises:
            DataError: a value cannot be stored; names the column.
        """

    def finish(self, spool: Path, folder: Path, rows: int) -> Path:  # noqa: ARG002 - for subclasses
        """Make the finished file from a complete spool and return its path; may be repeated after a kill.

        Args:
            spool: header and encoded windows.
            folder: folder for further files.
            rows: number of rows.
        """
        return spool


WRITERS: Registry[type[Writer]] = Registry("output format", "aerogel.bulk.writers", "WRITER")


def writer_for(path: Path) -> type[Writer]:
    """The writer for the suffix of a path; for pipes and devices JSON lines unless the suffix says otherwise.

    Raises:
        UsageError: no writer has the suffix, or the format cannot be written into a pipe.
    """
    writers = [WRITERS.get(name) for name in WRITERS.names()]
    suffixes = [suffix for writer in writers for suffix in writer.suffixes]
    stream = is_stream(path)
    for writer in writers:
        if path.suffix.lower() in writer.suffixes or (stream and not path.suffix and writer.streams):
            if stream and not writer.streams:
                raise UsageError(f"--out {path}: {path.suffix} cannot be written into a pipe; name a file")
            return writer
    raise UsageError(f"--out {path}: the suffix must be one of {', '.join(suffixes)}")
