"""The JSON-lines log of a run: one object per line, each with an `event` and the optimizer `step` it belongs to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, TextIO

from aerogel.errors import AerogelError, UsageError, require
from aerogel.system.atomic_io import atomic_file
from aerogel.system.json_fields import MalformedJsonError, check, parse
from aerogel.system.outputs import file_target, unwritable

__all__ = ["Log", "NoLog", "check_log"]

# Longer than any first line of a log.
_LINE = 1 << 20


def check_log(path: Path) -> None:
    """Ask, before the work, whether a log may replace what is at `path` and at the name its older log is kept under.

    Raises:
        UsageError: there is a file that is not the log of a run, or one that cannot be read.
    """
    for file in (path, _older(path)):
        try:
            foreign = file.is_file() and file.stat().st_size > 0 and not _is_log(file)
        except OSError as error:
            raise UsageError(f"--log {path}: {file} cannot be read ({error.strerror})") from error
        if foreign:
            raise UsageError(
                f"--log {path}: {file} exists and is not the log of a run; move it away or choose another --log"
            )


def _is_log(path: Path) -> bool:
    with path.open("rb") as stream:
        line = stream.readline(_LINE)
    try:
        check(parse(line), {"event": str})
    except MalformedJsonError:
        return False
    return True


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".old")


class Log:
    """An append-only log that a resumed run cuts back to where its state was saved.

    The log of the run before, whose checkpoint may still exist, is kept beside it with the ending ``.old`` until
    `settle`. A device or a pipe takes the lines of this process; nothing there is kept, cut back or removed.

    Args:
        path: the file; its folder is made.
        keep_bytes: keep so many bytes of the file.
        tensorboard: folder in which each number is written for TensorBoard too, as EVENT/NAME.
        step: that a resumed run goes on from; what TensorBoard has of later ones is void. 0 for a new run.

    Raises:
        UsageError: the file or folder cannot be written, or is not a log.
        MissingExtraError: there is no TensorBoard.
    """

    def __init__(
        self, path: Path, keep_bytes: int = 0, tensorboard: Path | None = None, step: int = 0
    ) -> None:
        check_log(path)
        self._path = path
        self._stream: TextIO
        try:
            target = file_target(path)
            self._older = None if target.stream else _older(path)
            if target.stream:
                self._stream = io.TextIOWrapper(target.open(), encoding="utf-8", line_buffering=True)
            else:
                target.path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = target.path.open("a", encoding="utf-8", buffering=1)
        except AerogelError:
            raise
        except OSError as error:
            raise UsageError(f"--log {path} cannot be written ({error.strerror})") from error
        self._written = 0
        try:
            self._board = _board(tensorboard, step) if tensorboard else None
            if not self._older:
                return
            # After a run that failed, the log to keep is the older one, not the failed run's.
            if not keep_bytes and path.stat().st_size and not self._older.exists():
                with atomic_file(self._older) as copy:
                    shutil.copyfile(path, copy)
            os.truncate(path, min(keep_bytes, path.stat().st_size))
            self._stream.seek(0, os.SEEK_END)
        except OSError as error:
            self._stream.close()
            raise UsageError(f"--log {path} cannot be written ({error.strerror})") from error
        except AerogelError:
            self._stream.close()
            raise

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one line.

        Raises:
            OutputError: it cannot be written, as on a full disk.
        """
        line = json.dumps({"event": event, "step": step, **values}) + "\n"
        try:
            self._stream.write(line)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._written += len(line)
        for name, value in values.items():
            if self._board and isinstance(value, (int, float)):
                self._board.add_scalar(f"{event}/{name}", value, step)

    def size(self) -> int:
        """Bytes written so far, kept ones included."""
        return self._stream.tell() if self._older else self._written

    def settle(self) -> None:
        """Remove the log of the run before: this run's checkpoint has replaced its checkpoint."""
        if self._older:
            with contextlib.suppress(OSError):
                self._older.unlink(missing_ok=True)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        # Every line was flushed as it was written; one that could not be has been reported.
        with contextlib.suppress(OSError):
            self._stream.close()
        if self._board:
            self._board.close()


def _board(folder: Path, step: int) -> Any:
    """A writer of event files. One for each run and resumption: TensorBoard reads them as one."""
    require("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    try:
        # What is of this step or later is void to TensorBoard; a new run's folder may hold an older one's.
        return SummaryWriter(folder, purge_step=step + 1 if step else 0)
    except OSError as error:
        raise UsageError(f"--tensorboard {folder} cannot be written ({error.strerror})") from error


class NoLog:
    """The log of a process that writes none."""

    def write(self, event: str, step: int, **values: Any) -> None:
        """Write nothing."""

    def size(self) -> int:
        """0."""
        return 0

    def settle(self) -> None:
        """Remove nothing."""

    def __enter__(self) -> NoLog:
        return self

    def __exit__(self, *_: object) -> None:
        pass
