"""What callers may give as texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aerogel.errors import UsageError

__all__ = ["Pair", "check_text", "check_texts"]

Pair = Sequence[str]
"""Two texts."""


def check_texts(texts: Iterable[Any], *, pairs: bool = False) -> list[Any]:
    """The texts as a list.

    Args:
        texts: strings; with `pairs`, tuples or lists of two strings as well.
        pairs: whether pairs are allowed.

    Returns:
        Strings, and tuples of two strings.

    Raises:
        UsageError: something else is given; the message names its index.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise UsageError(
            f"texts must be a list of strings, not {type(texts).__name__}; put one text in a list"
        )
    found: list[Any] = []
    for index, text in enumerate(texts):
        if isinstance(text, str):
            check_text(text, f"texts[{index}]")
            found.append(text)
        elif pairs and isinstance(text, tuple | list) and len(text) == 2:
            for part, piece in enumerate(text):
                check_text(piece, f"texts[{index}][{part}]")
            found.append((text[0], text[1]))
        else:
            wanted = "a string or a pair of strings" if pairs else "a string"
            raise UsageError(f"texts[{index}] must be {wanted}, not {_name(text)}")
    return found


def check_text(text: Any, name: str) -> None:
    """Refuse what is not a string of characters; the message calls it `name`.

    Raises:
        UsageError: it is not a string, or has half of a surrogate pair, which is not a character.
    """
    if not isinstance(text, str):
        raise UsageError(f"{name} must be a string, not {_name(text)}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name} has half of a surrogate pair at character {error.start}; decode the text again, "
            "or replace that character"
        ) from error


def _name(value: Any) -> str:
    """Its type, and of a sequence its length."""
    kind = type(value).__name__
    return f"{kind} of {len(value)}" if isinstance(value, tuple | list) else kind
