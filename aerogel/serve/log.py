"""The log of a server: one line an event on standard error, as text or JSON."""

from __future__ import annotations

import sys
import time
import traceback
from typing import IO, Any

import orjson

from aerogel.system.printable import escaped

__all__ = ["Log"]


class Log:
    """Writes events. A log that cannot be written, because the disk is full, stops nothing; lost lines are counted.

    Args:
        style: text or json.
        stream: where to write; standard error by default.

    Attributes:
        lost: number of lines that could not be written.
    """

    def __init__(self, style: str = "text", stream: IO[str] | None = None) -> None:
        self._json = style == "json"
        self._stream = stream or sys.stderr
        self.lost = 0

    def event(self, name: str, **values: Any) -> None:
        """Write an event with values; texts of others are made printable."""
        if self._json:
            line = orjson.dumps({"time": _time(), "event": name, **values}, default=str).decode()
        else:
            shown = " ".join(f"{key}={_word(value)}" for key, value in values.items())
            line = f"{_time()} {name} {shown}".rstrip()
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1

    def failure(self, name: str, error: BaseException, **values: Any) -> None:
        """Write an unexpected error with its traceback."""
        self.event(name, **values, traceback="".join(traceback.format_exception(error)))


def _time() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def _word(value: Any) -> str:
    text = escaped(str(value)).replace("\n", "\\n")
    return f'"{text}"' if " " in text or not text else text
