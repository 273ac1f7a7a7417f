"""Formats of text files, one a module; the file name is the format's name.

A module defines ``FORMAT``, an `aerogel.data.corpus.format.TextFormat`. The first format that recognises a file's first
line reads it; if there is no such format, "lines" does.
"""

from aerogel.data.corpus.format import TextFormat
from aerogel.registry import Registry

__all__ = ["FORMATS", "recognise"]

FORMATS: Registry[TextFormat] = Registry("text format", "aerogel.data.corpus.formats", "FORMAT")


def recognise(first: str) -> TextFormat:
    """Return the format of a file whose first non-blank line is `first`."""
    formats = (FORMATS.get(name) for name in FORMATS.names())
    return next((format for format in formats if format.recognises(first)), FORMATS.get("lines"))
