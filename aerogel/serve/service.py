"""The state of a server process, which all requests share."""

from __future__ import annotations

import itertools
import os

from aerogel.serve.keys import KEY_VARIABLE, TOKEN_VARIABLE, Keys, read_keys
from aerogel.serve.log import Log
from aerogel.serve.metrics import Metrics
from aerogel.serve.pool import Pool
from aerogel.serve.settings import Settings

__all__ = ["Service"]


class Service:
    """Models, keys, metrics and log of a process. Make it on the thread of a running event loop.

    Args:
        settings: the server's settings.
        log: where events are written.

    Raises:
        UsageError: the keys cannot be read.
    """

    def __init__(self, settings: Settings, log: Log | None = None) -> None:
        self.settings = settings
        self.log = log or Log(settings.log_format)
        self.metrics = Metrics()
        self.keys = Keys(read_keys(settings.api_key_file, KEY_VARIABLE), settings.rate_limit)
        self.admin = Keys(read_keys(settings.admin_token_file, TOKEN_VARIABLE))
        self.pool = Pool(settings, self.log, lambda name: self.metrics.observer(name, self.log))
        self.max_body = int(settings.max_body_mb * 1_000_000)
        self.draining = False
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        """A request id that no other process of the server gives."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def drain(self) -> None:
        """Report that the server is not ready, and close connections after each answer."""
        self.draining = True
        self.pool.stop()
