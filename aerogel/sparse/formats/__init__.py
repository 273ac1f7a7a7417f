"""Storage formats. Each module of this folder is one format, found by its file name.

A format module defines ``FORMAT``, an instance of `aerogel.sparse.format.Format`: pure functions without state.
"""

from aerogel.registry import Registry
from aerogel.sparse.format import Format

__all__ = ["FORMATS"]

FORMATS: Registry[Format] = Registry("format", "aerogel.sparse.formats", "FORMAT")
