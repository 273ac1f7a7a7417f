"""Comma-separated values with a header; values in double quotes may contain commas and line ends (RFC 4180)."""

from __future__ import annotations

from aerogel.bulk.readers._separated import Separated

__all__ = ["READER"]

READER = Separated((".csv",), ",", quoted=True)
