"""Ways to run a model that can be measured. Each module of this folder is one candidate.

A candidate's module defines ``BACKEND``, an instance of `aerogel.bench.backend.Backend`.
"""

from aerogel.bench.backend import Backend
from aerogel.registry import Registry

__all__ = ["BACKENDS", "third_party_backends"]

BACKENDS: Registry[Backend] = Registry("candidate", "aerogel.bench.backends", "BACKEND")


def third_party_backends() -> list[str]:
    """Names of all candidates that belong to somebody else."""
    return [name for name in BACKENDS.names() if BACKENDS.get(name).rival]
