"""Tab-separated values with a header; a double quote is an ordinary character."""

from __future__ import annotations

from aerogel.bulk.readers._separated import Separated

__all__ = ["READER"]

READER = Separated((".tsv",), "\t", quoted=False)
