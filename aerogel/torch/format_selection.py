"""Whether a pruned matrix is worth packing, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.errors import UsageError
from aerogel.ops.functions import op_for
from aerogel.sparse.formats import FORMATS
from aerogel.sparse.masks import block_scores, check_block

__all__ = ["AUTO", "StorageFormat", "best", "candidates"]

AUTO = "auto"
# Four rows are the least that reach the speed of the dense product per entry stored.
_BLOCK = (4, 1)


@dataclass(frozen=True)
class StorageFormat:
    """A way to store a matrix: name of the format, and (rows, cols) of its blocks."""

    format: str
    block: tuple[int, int]

    @property
    def break_even(self) -> float:
        """Entries stored, over all, at which the dense product is as fast. The number that export goes by."""
        return op_for(self.format).max_density(self.block)

    def stored(self, mask: np.ndarray, name: str) -> float:
        """Share of the entries of a matrix called `name` that would be stored, zeros inside blocks included.

        Raises:
            UsageError: the block does not divide the matrix.
        """
        check_block(mask.shape, self.block, name)
        blocks = int(np.count_nonzero(block_scores(mask, self.block)))
        return blocks * self.block[0] * self.block[1] / mask.size


def candidates(
    format: str, block: tuple[int, int] | None = None, own_block: tuple[int, int] | None = None
) -> list[StorageFormat]:
    """The ways to consider.

    Args:
        format: "csr", "bsr", or "auto" for both.
        block: what bsr is asked to store; None leaves it to `own_block`.
        own_block: what the model was pruned in, (1, 1) if in none; None where that is not known.

    Raises:
        UsageError: unknown format, or a block where there is nothing to store in blocks.
        ExportError: a known format that kernels cannot multiply by.
    """
    if format == AUTO:
        pruned_in = own_block if own_block != (1, 1) else None
        return [StorageFormat("csr", (1, 1)), StorageFormat("bsr", block or pruned_in or _BLOCK)]
    op_for(format)
    if FORMATS.get(format).blocked:
        return [StorageFormat(format, block or own_block or _BLOCK)]
    if block is not None:
        raise UsageError(
            f"block {block[0]}x{block[1]} does not apply to format {format!r}, which has no blocks"
        )
    return [StorageFormat(format, (1, 1))]


def best(
    name: str, mask: np.ndarray, ways: Sequence[StorageFormat], max_density: float | None = None
) -> StorageFormat | None:
    """The way that should be fastest for the matrix called `name`; None where dense is.

    Time is taken to grow with the entries stored and to meet that of the dense product at the break-even. Among several
    ways, those whose blocks do not divide the matrix are left out.

    Raises:
        UsageError: the one way there is has a block that does not divide the matrix.
    """
    fitting = [
        way
        for way in ways
        if len(ways) == 1 or not (mask.shape[0] % way.block[0] or mask.shape[1] % way.block[1])
    ]
    shares = {way: way.stored(mask, name) for way in fitting}
    paying = [
        way for way in fitting if shares[way] <= (way.break_even if max_density is None else max_density)
    ]
    return min(paying, key=lambda way: shares[way] / way.break_even, default=None)
