"""Helper of methods that take one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aerogel.errors import DataError, UsageError

__all__ = ["row_by_row"]


def row_by_row(function: Callable[[Any], Any], rows: Sequence[Any], where: Sequence[str]) -> list[Any]:
    """Call a function with each row.

    Raises:
        DataError: the function refuses a row with a UsageError; names the file and line.
    """
    found = []
    for row, place in zip(rows, where, strict=True):
        try:
            found.append(function(row))
        except UsageError as error:
            raise DataError(f"{place}: {error}") from error
    return found
