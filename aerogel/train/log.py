"""JSON-lines log of a run: one object per line, with its `event` and its optimizer `step`."""

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

# Upper bound of the length of a log's first line, in bytes.
_FIRST_LINE = 1 << 20


def check_log(path: Path) -> None:
    """Check that a log may replace the files at `path` and at the path of the previous log.

    Raises:
        UsageError: a file there is not the log of a run, or cannot be read.
    """
    for file in (path, _previous(path)):
        try:
            foreign = file.is_file() and file.stat().st_size > 0 and not _is_log(file)
        except OSError as error:
            raise UsageError(
                f"log {path}: cannot read {file} ({error.strerror}); check the path and its permissions"
            ) from error
        if foreign:
            raise UsageError(
                f"log {path}: {file} exists and is not the log of a run; move it away or choose another log"
            )


def _is_log(path: Path) -> bool:
    with path.open("rb") as stream:
        line = stream.readline(_FIRST_LINE)
    try:
        check(parse(line), {"event": str})
    except MalformedJsonError:
        return False
    return True


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".old")


class Log:
    """An append-only log. A resumed run truncates it to its length when the state was saved.

    The log of the previous run, whose checkpoint may still exist, is kept next to it, with the ending ``.old``, until
    `remove_previous`. A device or a pipe gets the lines of this process only: no previous log, no truncation.

    Args:
        path: file to write; its folder is created.
        keep_bytes: length to truncate the file to; 0 for a new run.
        tensorboard: folder to which each number is also written for TensorBoard, as EVENT/NAME.
        step: step that a resumed run starts from; TensorBoard discards later ones. 0 for a new run.

    Raises:
        UsageError: the file or folder cannot be written, or is not a log.
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(
        self, path: Path, keep_bytes: int = 0, tensorboard: Path | None = None, step: int = 0
    ) -> None:
        check_log(path)
        self._path = path
        self._stream: TextIO
        try:
            target = file_target(path)
            self._previous = None if target.stream else _previous(path)
            if target.stream:
                self._stream = io.TextIOWrapper(target.open(), encoding="utf-8", line_buffering=True)
            else:
                target.path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = target.path.open("a", encoding="utf-8", buffering=1)
        except AerogelError:
            raise
        except OSError as error:
            raise UsageError(
                f"cannot write log {path} ({error.strerror}); check the path and its permissions"
            ) from error
        self._written = 0
        try:
            self._board = _board(tensorboard, step) if tensorboard else None
            if not self._previous:
                return
            # If a previous log exists already, the current one is of a failed run and is not kept.
            if not keep_bytes and path.stat().st_size and not self._previous.exists():
                with atomic_file(self._previous) as copy:
                    shutil.copyfile(path, copy)
            os.truncate(path, min(keep_bytes, path.stat().st_size))
            self._stream.seek(0, os.SEEK_END)
        except OSError as error:
            self._stream.close()
            raise UsageError(
                f"cannot write log {path} ({error.strerror}); check the path and its permissions"
            ) from error
        except AerogelError:
            self._stream.close()
            raise

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one line.

        Raises:
            OutputError: the file cannot be written, for example because the disk is full.
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
        """Length of the log in bytes."""
        return self._stream.tell() if self._previous else self._written

    def remove_previous(self) -> None:
        """Remove the log of the previous run, after this run's checkpoint has replaced the previous one."""
        if self._previous:
            with contextlib.suppress(OSError):
                self._previous.unlink(missing_ok=True)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        # Each line is flushed when it is written, and `write` reports errors.
        with contextlib.suppress(OSError):
            self._stream.close()
        if self._board:
            self._board.close()


def _not_writable(what: str, error: OSError) -> UsageError:
    return UsageError(f"cannot write {what} ({error.strerror}); check the path and its permissions")


def _board(folder: Path, step: int) -> Any:
    """Open a writer of event files. Each run and each resumption adds a file; TensorBoard joins them."""
    require("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    try:
        # TensorBoard discards values from this step on. The folder of a new run may contain those of an earlier run.
        return SummaryWriter(folder, purge_step=step + 1 if step else 0)
    except OSError as error:
        raise UsageError(
            f"cannot write tensorboard {folder} ({error.strerror}); check the path and its permissions"
        ) from error


class NoLog:
    """Stands in for the log in processes that write none."""

    def write(self, event: str, step: int, **values: Any) -> None:
        """Do nothing."""

    def size(self) -> int:
        """Return 0."""
        return 0

    def remove_previous(self) -> None:
        """Do nothing."""

    def __enter__(self) -> NoLog:
        return self

    def __exit__(self, *_: object) -> None:
        pass
