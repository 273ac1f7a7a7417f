"""A worker process: ``python -m aerogel.serve.worker SOCKET READY`` with numbers of inherited files.

The settings come as TOML on standard input. One byte is written to READY once all models are loaded.
"""

from __future__ import annotations

import os
import socket
import sys

from aerogel.errors import AerogelError
from aerogel.serve.config import parse_config
from aerogel.serve.process import run_process
from aerogel.serve.settings import Settings
from aerogel.system.printable import one_line


def main(arguments: list[str]) -> int:
    """Serve on an inherited socket; returns the exit status."""
    listening, ready = map(int, arguments)
    try:
        settings = Settings(**parse_config(sys.stdin.read(), "settings"))
        return run_process(settings, [socket.socket(fileno=listening)], lambda: _tell(ready))
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2


def _tell(ready: int) -> None:
    os.write(ready, b"1")
    os.close(ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
