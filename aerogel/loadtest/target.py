"""The server: its address, and the bytes of a request."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from aerogel.errors import UsageError

__all__ = ["Target"]

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class Target:
    """A URL to send requests to.

    Attributes:
        host: name or address.
        port: port.
        tls: context for https, or None.
        head: request line and headers, without Content-Length.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    head: bytes

    @classmethod
    def parse(cls, url: str, path: str, headers: Mapping[str, str]) -> Target:
        """Parse a URL such as http://localhost:8080, whose own path is put before `path`.

        Raises:
            UsageError: it is not an http or https URL, or a header is malformed.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url}: {error}; give a URL such as http://localhost:8080") from error
        if (
            parts.scheme not in _PORTS
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise UsageError(
                f"{url}: give a URL such as http://localhost:8080, without user, query and fragment"
            )
        lines = [f"POST {parts.path.rstrip('/')}{path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += ["Content-Type: application/json", "Accept: application/json"]
        for name, value in headers.items():
            if not _NAME.fullmatch(name) or not value.isprintable():
                raise UsageError(f"--header {name[:40]!r}: not a header; give NAME=VALUE")
            lines.append(f"{name}: {value}")
        try:
            head = "\r\n".join(lines).encode("latin-1")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{url}: the URL or a --header has characters that HTTP does not allow"
            ) from error
        if any(len(line.split()) != 3 for line in lines[:1]):
            raise UsageError(f"{url}: a path must not contain spaces")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(parts.hostname, port or _PORTS[parts.scheme], tls, head)

    def requests(self, bodies: Sequence[bytes]) -> list[bytes]:
        """The bytes of a request for each body."""
        return [self.head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
