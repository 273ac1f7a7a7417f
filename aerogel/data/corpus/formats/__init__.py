"""Formats of text files. Each module of this folder is one, found by its file name.

A format module defines ``FORMAT``, a `aerogel.data.corpus.format.TextFormat`. A file is read in the one that recognises
its first line, and as "lines" if none does.
"""

from aerogel.data.corpus.format import TextFormat
from aerogel.registry import Registry

__all__ = ["FORMATS", "recognise"]

FORMATS: Registry[TextFormat] = Registry("text format", "aerogel.data.corpus.formats", "FORMAT")


def recognise(first: str) -> TextFormat:
    """The format of a file whose first line that is not blank is `first`."""
    formats = (FORMATS.get(name) for name in FORMATS.names())
    return next((format for format in formats if format.recognises(first)), FORMATS.get("lines"))
