"""A text format: how to find the documents of a file and the sentences of a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["TextFormat"]


@dataclass(frozen=True)
class TextFormat:
    """Rules for one text format.

    Attributes:
        recognises: whether the first non-blank line of a file identifies this format.
        separates: whether a line separates two documents.
        sentences: split any other line into sentences; an empty list for a line that is not text, such as a heading.
    """

    recognises: Callable[[str], bool]
    separates: Callable[[str], bool]
    sentences: Callable[[str], list[str]]
