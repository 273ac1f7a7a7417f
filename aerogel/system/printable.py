"""Texts from outside, such as names in a record and paths: what may be stored, and what is shown on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

__all__ = ["escaped", "one_line", "unprintable"]

# Control characters, lone surrogates (bytes of a file name that are not UTF-8), and separators of lines and paragraphs.
_REFUSED = ("Cc", "Cs", "Zl", "Zp")
# These make a terminal show the text after them in another order.
_REORDER = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def escaped(text: str) -> str:
    """`text` with each character that controls a terminal, but for line feeds and tabs, as a backslash escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if _refused(char) and char not in "\n\t" else char
        for char in text
    )


def one_line(error: BaseException) -> str:
    """The message of an error as one line that is safe to print."""
    return escaped(" ".join(str(error).split()))


def unprintable(value: Any) -> str | None:
    """The first text in `value` that cannot be stored and shown as it is, escaped; None if there is none.

    Args:
        value: a JSON value, or a path; names and values of tables and entries of lists are looked at.
    """
    # A list and not recursion: the depth of a table from outside has no limit.
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, PurePath):
            item = str(item)
        if isinstance(item, str) and any(map(_refused, item)):
            return ascii(item)
        if isinstance(item, Mapping):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            left += item
    return None


def _refused(char: str) -> bool:
    return unicodedata.category(char) in _REFUSED or char in _REORDER
