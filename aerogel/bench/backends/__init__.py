"""Ways to run a model that can be measured. Each module of this folder is one candidate.

A candidate's module defines ``CANDIDATE``, an instance of `aerogel.bench.backend.Candidate`.
"""

from aerogel.bench.backend import Candidate
from aerogel.registry import Registry

__all__ = ["CANDIDATES", "rivals"]

CANDIDATES: Registry[Candidate] = Registry("candidate", "aerogel.bench.backends", "CANDIDATE")


def rivals() -> list[str]:
    """Names of all candidates that belong to somebody else."""
    return [name for name in CANDIDATES.names() if CANDIDATES.get(name).rival]
