"""Backends that can be measured. Each module of this folder is one.

It defines ``BACKEND``, an instance of `aerogel.bench.backend.Backend`.
"""

from aerogel.bench.backend import Backend
from aerogel.registry import Registry

__all__ = ["BACKENDS", "third_party_backends"]

BACKENDS: Registry[Backend] = Registry("backend", "aerogel.bench.backends", "BACKEND")


def third_party_backends() -> list[str]:
    """Return the names of all third-party backends."""
    return [name for name in BACKENDS.names() if BACKENDS.get(name).third_party]
