"""The JSON-lines log of a run: one object per line, each with an `event` and the optimizer `step` it belongs to."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from aerogel.errors import OutputError, UsageError

__all__ = ["Log"]


class Log:
    """An append-only log that a resumed run cuts back to where its state was saved.

    Args:
        path: the file; its folder is made.
        keep_bytes: keep so much of what is there.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: Path, keep_bytes: int = 0) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, min(keep_bytes, path.stat().st_size))
            self._stream = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UsageError(f"--log {path} cannot be written ({error.strerror})") from error

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one line.

        Raises:
            OutputError: it cannot be written, as on a full disk.
        """
        try:
            self._stream.write(json.dumps({"event": event, "step": step, **values}) + "\n")
        except OSError as error:
            raise OutputError(
                f"log {self._stream.name} cannot be written ({error.strerror}); make room"
            ) from error

    def size(self) -> int:
        """Bytes written so far, kept ones included."""
        return self._stream.tell()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        # Every line was flushed as it was written; one that could not be has been reported.
        with contextlib.suppress(OSError):
            self._stream.close()
