"""Which texts run together."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["make_batches"]

# With padding that costs nothing, a batch's arrays may still have so many times the budget in positions.
_MOST_PADDED = 2


def make_batches(
    lengths: Sequence[int],
    budget: int,
    *,
    free_padding: bool = False,
    may_pad: bool = True,
    most_rows: int | None = None,
) -> list[list[int]]:
    """Batches of rows of like length, longest first, so that memory peaks at the beginning.

    A row that is longer than the budget is a batch of its own.

    Args:
        lengths: tokens of each row.
        budget: tokens of a batch, padding included.
        free_padding: padding takes no time: count real tokens only.
        may_pad: rows of different lengths may share a batch.
        most_rows: rows of a batch at most.

    Returns:
        Indices of the rows of each batch.
    """
    if len(lengths) == 1:
        return [[0]]
    batches: list[list[int]] = []
    longest = real = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        length = lengths[row]
        rows = len(batches[-1]) + 1 if batches else 0
        positions = longest * rows
        fits = real + length <= budget and positions <= _MOST_PADDED * budget
        if not free_padding:
            fits = positions <= budget
        if (
            not batches
            or not fits
            or (not may_pad and length != longest)
            or (most_rows is not None and rows > most_rows)
        ):
            batches.append([])
            longest, real = length, 0
        batches[-1].append(row)
        real += length
    return batches
