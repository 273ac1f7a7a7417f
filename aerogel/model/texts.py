"""Check the texts that callers pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aerogel.errors import UsageError

__all__ = ["Pair", "check_text", "check_texts"]

Pair = Sequence[str]
"""Two texts."""


def check_texts(texts: Iterable[Any], *, pairs: bool = False) -> list[Any]:
    """Check texts and return them as a list.

    Args:
        texts: strings and, with `pairs`, tuples or lists of two strings.
        pairs: whether pairs are allowed.

    Returns:
        Strings and tuples of two strings.

    Raises:
        UsageError: a text has another type; the message names its index.
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
            expected = "a string or a pair of strings" if pairs else "a string"
            raise UsageError(f"texts[{index}] must be {expected}, not {_type(text)}")
    return found


def check_text(text: Any, name: str) -> None:
    """Check that a text is a valid string; messages call it `name`.

    Raises:
        UsageError: the text is not a string, or has half of a surrogate pair, which is not a character.
    """
    if not isinstance(text, str):
        raise UsageError(f"{name} must be a string, not {_type(text)}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name} has half of a surrogate pair at character {error.start}; decode the text again, "
            "or replace that character"
        ) from error


def _type(value: Any) -> str:
    """Name of a value's type, with the length of a tuple or list."""
    name = type(value).__name__
    return f"{name} of {len(value)}" if isinstance(value, tuple | list) else name
