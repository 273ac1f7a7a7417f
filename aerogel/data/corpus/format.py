"""How a file of text tells where its documents end, and its lines where their sentences do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["TextFormat"]


@dataclass(frozen=True)
class TextFormat:
    """One way to write documents into a file.

    Attributes:
        recognises: whether the first line of a file that is not blank shows that it is written so.
        separates: whether a line stands between two documents and is of neither.
        sentences: the sentences of any other line; none for a line that is not text.
    """

    recognises: Callable[[str], bool]
    separates: Callable[[str], bool]
    sentences: Callable[[str], list[str]]
