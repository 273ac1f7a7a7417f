"""The folder of an unfinished job: its settings, how far it is, and the spool of its output.

``.NAME.job/`` is next to the output NAME. ``settings.json`` says what the job is. ``progress.json`` is replaced after
each window, once the spool is on the disk, so that after a kill both agree: bytes of the spool beyond it are dropped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aerogel.errors import DataError, UsageError
from aerogel.system.atomic_io import atomic_file
from aerogel.system.json_fields import MalformedJsonError, Number, Only, read
from aerogel.system.outputs import file_target, reported

__all__ = ["Job", "Progress"]

_COUNT = Number(int, 0)
_SCHEMA = Only({"windows": _COUNT, "rows": _COUNT, "bytes": _COUNT, "digest": str, "complete": bool})


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        windows: number of windows in the spool.
        rows: number of rows in them.
        bytes: size of the spool in bytes.
        digest: SHA-256 of the input rows; see `aerogel.bulk.windows.Window`.
        complete: whether these are all rows.
    """

    windows: int = 0
    rows: int = 0
    bytes: int = 0
    digest: str = ""
    complete: bool = False


class Job:
    """An unfinished job. Its output must be claimed by this process.

    Args:
        out: the output file.
        settings: what decides the bytes of the output, as JSON.
        header: first bytes of the spool.
        resume: continue the unfinished job of `out`, if there is one.
        restart: discard it.

    Attributes:
        progress: how far the job is.

    Raises:
        UsageError: there is an unfinished job, and neither `resume` nor `restart`; or it has other settings.
        DataError: its files are damaged.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self, out: Path, settings: Mapping[str, Any], header: bytes, *, resume: bool, restart: bool
    ) -> None:
        self._given = out
        self.out = file_target(out).path
        self.folder = self.out.with_name(f".{self.out.name}.job")
        self.spool = self.folder / "spool"
        self._stream: BinaryIO | None = None
        with reported(out):
            if restart:
                shutil.rmtree(self.folder, ignore_errors=True)
            # Without settings, the job was killed before its first window.
            if (self.folder / "settings.json").is_file():
                if not resume:
                    raise UsageError(
                        f"--out {out} has an unfinished job; add --resume to continue it or --restart to discard it"
                    )
                self._compare(settings)
                self.progress = self._read_progress()
            else:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True)
                self.progress = Progress(bytes=len(header))
                self._write("spool", header)
                self._write("progress.json", _json(asdict(self.progress)))
                self._write("settings.json", _json(settings))

    def append(self, data: bytes, rows: int, digest: str) -> None:
        """Add the output of the next window, and record it.

        Raises:
            OutputError: the disk is full, or a file cannot be written.
        """
        with reported(self._given):
            if self._stream is None:
                self._stream = self.spool.open("r+b")
                self._stream.truncate(self.progress.bytes)
                self._stream.seek(self.progress.bytes)
            self._stream.write(data)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        before = self.progress
        self._record(Progress(before.windows + 1, before.rows + rows, before.bytes + len(data), digest))

    def complete(self) -> None:
        """Record that all rows are in the spool."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        elif self.spool.is_file():
            os.truncate(self.spool, self.progress.bytes)
        self._record(Progress(**{**asdict(self.progress), "complete": True}))

    def publish(self, finished: Path) -> None:
        """Move the finished file to the output.

        Raises:
            OutputError: it cannot be moved.
        """
        with reported(self._given):
            with finished.open("rb") as stream:
                os.fsync(stream.fileno())
            finished.replace(self.out)
            self.spool.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder of a job whose output is published."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def published(self) -> bool:
        """Whether the process was killed after the output was moved, and before the folder was removed."""
        return self.progress.complete and not self.spool.is_file()

    def close(self) -> None:
        """Close the spool; the job can be resumed."""
        if self._stream is not None:
            self._stream.close()

    def _record(self, progress: Progress) -> None:
        self._write("progress.json", _json(asdict(progress)))
        self.progress = progress

    def _write(self, name: str, content: bytes) -> None:
        with reported(self._given), atomic_file(self.folder / name) as path:
            path.write_bytes(content)

    def _compare(self, settings: Mapping[str, Any]) -> None:
        """Raise UsageError if the job has other settings."""
        known = self._read("settings.json", dict)
        for name in {**known, **settings}:
            if known.get(name) != settings.get(name):
                raise UsageError(
                    f"--resume: the unfinished job of {self._given} has another {name}; "
                    "run it with the same, or add --restart instead of --resume to discard it"
                )

    def _read_progress(self) -> Progress:
        progress = Progress(**self._read("progress.json", _SCHEMA))
        size = self.spool.stat().st_size if self.spool.is_file() else 0
        if size < progress.bytes and not (progress.complete and not self.spool.is_file()):
            raise DataError(f"{self.spool}: has {size} of {progress.bytes} bytes; start again with --restart")
        return progress

    def _read(self, name: str, schema: Any) -> Any:
        path = self.folder / name
        try:
            return read(path, schema)
        except (OSError, MalformedJsonError) as error:
            raise DataError(f"{path}: {error}; start again with --restart") from error


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
