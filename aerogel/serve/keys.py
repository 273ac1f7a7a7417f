"""API keys: who may send requests, and how many."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from pathlib import Path

from aerogel.errors import DataError, UsageError
from aerogel.serve.refusals import Overloaded, Unauthorized
from aerogel.system.text import decode, read_bytes

__all__ = ["KEY_VARIABLE", "TOKEN_VARIABLE", "Keys", "read_keys"]

KEY_VARIABLE, TOKEN_VARIABLE = "AEROGEL_API_KEY", "AEROGEL_ADMIN_TOKEN"
_SHORTEST = 8


def read_keys(path: Path | None, variable: str) -> list[str]:
    """Keys of a file, one a line, and of an environment variable.

    Raises:
        UsageError: the file cannot be read, has no key, or a key is shorter than eight characters.
    """
    found = [os.environ[variable]] if os.environ.get(variable) else []
    if path is not None:
        try:
            lines = decode(path, read_bytes(path)).split("\n")
        except DataError as error:
            raise UsageError(f"keys {error}") from error
        stripped = [line.strip() for line in lines]
        from_file = [line for line in stripped if line and not line.startswith("#")]
        if not from_file:
            raise UsageError(f"{path} has no key; write one a line")
        found += from_file
    if any(len(key) < _SHORTEST or not key.isascii() for key in found):
        raise UsageError(
            f"{path or variable}: a key has less than {_SHORTEST} characters or is not ASCII; change it"
        )
    return found


class Keys:
    """Checks the keys of requests in constant time, and limits the rate of each.

    Args:
        keys: the keys; without any, all requests are allowed.
        rate: requests per second of a key, on average; None for no limit.
    """

    def __init__(self, keys: list[str], rate: float | None = None) -> None:
        # Hashes have one length, so that the time of a comparison tells nothing about a key.
        self._keys = [_hash(key.encode()) for key in keys]
        self._rate = rate
        self._tokens: dict[bytes, tuple[float, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Check a request, which has its key in Authorization: Bearer, or in x-api-key.

        Raises:
            Unauthorized: the key is missing or unknown.
            Overloaded: the key has sent too many requests.
        """
        if not self._keys:
            return
        given = _key(headers)
        if given is None:
            raise Unauthorized("the request has no API key; send the header Authorization: Bearer KEY")
        hashed = _hash(given)
        # All keys are compared, so that the time does not tell which one is nearly right.
        known = False
        for key in self._keys:
            known |= hmac.compare_digest(key, hashed)
        if not known:
            raise Unauthorized("the API key is not known; check the key")
        if self._rate is not None:
            self._limit(hashed, self._rate)

    def _limit(self, key: bytes, rate: float) -> None:
        """Count a request of a key: a bucket of one second's requests, at least one, fills at `rate`."""
        now, size = time.monotonic(), max(1.0, rate)
        left, before = self._tokens.get(key, (size, now))
        left = min(size, left + (now - before) * rate)
        if left < 1:
            self._tokens[key] = left, now
            raise Overloaded(
                f"more than {rate:g} requests per second with this API key; send fewer", (1 - left) / rate
            )
        self._tokens[key] = left - 1, now


def _key(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            return value.strip()
    return None


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
