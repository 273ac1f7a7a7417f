"""Escape or refuse untrusted text, such as names in a record or paths, before it is stored or printed."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

__all__ = ["escaped", "one_line", "unprintable"]

# Unicode categories to refuse: control characters, lone surrogates (file name bytes that are not UTF-8), and line and
# paragraph separators.
_REFUSED = ("Cc", "Cs", "Zl", "Zp")
# Characters that change the direction of the text after them.
_REORDER = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def escaped(text: str) -> str:
    """Replace terminal control characters, except line feeds and tabs, by backslash escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if _refused(char) and char not in "\n\t" else char
        for char in text
    )


def one_line(error: BaseException) -> str:
    """The message of an error as one printable line."""
    return escaped(" ".join(str(error).split()))


def unprintable(value: Any) -> str | None:
    """The first text in `value` with characters that are refused, escaped; None if there is no such text.

    Args:
        value: a JSON value or a path. Names and values of objects and items of lists are searched.
    """
    # A stack instead of recursion, because untrusted values may be nested deeply.
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, PurePath):
            item = str(item)
        if isinstance(item, str) and any(map(_refused, item)):
            return ascii(item)
        if isinstance(item, Mapping):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            stack += item
    return None


def _refused(char: str) -> bool:
    return unicodedata.category(char) in _REFUSED or char in _REORDER
