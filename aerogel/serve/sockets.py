"""Sockets to listen on."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from aerogel.errors import UsageError
from aerogel.serve.settings import Settings

__all__ = ["address", "bind", "bind_port", "release"]

# Connections that the system accepts while the server is busy.
_BACKLOG = 2048


def bind(settings: Settings) -> socket.socket:
    """The socket of a server, bound and listening.

    Raises:
        UsageError: the address is in use or not one of this machine.
    """
    return _bind_path(settings.uds) if settings.uds is not None else bind_port(settings.host, settings.port)


def bind_port(host: str, port: int) -> socket.socket:
    """A listening socket of an address.

    Raises:
        UsageError: the address is in use or not one of this machine.
    """
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(
            f"--host {host}: {error.strerror or error}; give an address of this machine"
        ) from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(target)
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise UsageError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --port"
        ) from error
    return found


def address(found: socket.socket, *, tls: bool) -> str:
    """URL of a bound socket."""
    name = found.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if tls else 'http'}://{host}:{name[1]}"


def release(sockets: list[socket.socket], settings: Settings) -> None:
    """Close the sockets of a server, which may be closed already, and remove the file of a Unix socket."""
    for found in sockets:
        found.close()
    if settings.uds is not None:
        settings.uds.unlink(missing_ok=True)


def _bind_path(path: Path) -> socket.socket:
    """A Unix socket that only this user may connect to; a file that a dead server left is replaced."""
    found = socket.socket(socket.AF_UNIX)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            if found.connect_ex(str(path)) == 0:
                found.close()
                raise UsageError(f"--uds {path} is in use by another server; choose another path")
            path.unlink()
            found.close()
            found = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            found.bind(str(path))
        finally:
            os.umask(before)
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise UsageError(
            f"cannot listen on {path} ({error.strerror or error}); choose another --uds"
        ) from error
    return found
