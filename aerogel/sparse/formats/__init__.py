"""Storage formats, one module each, found by file name.

A module defines ``FORMAT``, a stateless instance of `aerogel.sparse.format.Format`.
"""

from aerogel.registry import Registry
from aerogel.sparse.format import Format

__all__ = ["FORMATS"]

FORMATS: Registry[Format] = Registry("format", "aerogel.sparse.formats", "FORMAT")
