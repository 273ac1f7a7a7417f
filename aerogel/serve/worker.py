"""A worker process: ``python -m aerogel.serve.worker SOCKET READY LATE``.

SOCKET and READY are numbers of inherited files; one byte is written to READY once all models are loaded. With LATE 1,
no connection is accepted before that. The settings come as TOML on standard input.
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
    listening, ready, late = map(int, arguments)
    try:
        settings = Settings(**parse_config(sys.stdin.read(), "settings"))
        sockets = [socket.socket(fileno=listening)]
        return run_process(settings, sockets, lambda: _tell(ready), late=bool(late))
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2


def _tell(ready: int) -> None:
    os.write(ready, b"1")
    os.close(ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
