"""Group texts into batches."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["make_batches"]

# If padding costs nothing, largest batch with padding, in multiples of the budget.
_MAX_PADDED = 2


def make_batches(
    lengths: Sequence[int],
    budget: int,
    *,
    free_padding: bool = False,
    may_pad: bool = True,
    max_rows: int | None = None,
) -> list[list[int]]:
    """Group rows of similar length into batches, the longest rows first, so that memory peaks at the beginning.

    A row longer than the budget gets a batch of its own.

    Args:
        lengths: tokens of each row.
        budget: largest number of tokens in a batch, padding included.
        free_padding: whether the model skips padding; the budget then counts real tokens only.
        may_pad: whether rows of different lengths may share a batch.
        max_rows: largest number of rows in a batch, or None.

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
        fits = real + length <= budget and positions <= _MAX_PADDED * budget
        if not free_padding:
            fits = positions <= budget
        if (
            not batches
            or not fits
            or (not may_pad and length != longest)
            or (max_rows is not None and rows > max_rows)
        ):
            batches.append([])
            longest, real = length, 0
        batches[-1].append(row)
        real += length
    return batches
