"""Select the storage format of each pruned matrix on the CPU, by stored fraction and break-even."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.errors import UsageError
from aerogel.ops.functions import op_for
from aerogel.sparse.formats import FORMATS
from aerogel.sparse.masks import block_scores, check_block

__all__ = ["AUTO", "StorageFormat", "candidates", "select"]

AUTO = "auto"
# The smallest block with the speed of the dense product per stored entry.
_BLOCK = (4, 1)


@dataclass(frozen=True)
class StorageFormat:
    """Name of a storage format, (rows, cols) of its blocks, and value type."""

    format: str
    block: tuple[int, int]
    weights: str = "fp32"

    def __str__(self) -> str:
        rows, cols = self.block
        return f"{self.format} {rows}x{cols}" if FORMATS.get(self.format).blocked else self.format

    @property
    def break_even(self) -> float:
        """Stored fraction at which the dense product is as fast, the same number as in export."""
        return op_for(self.format, self.weights).max_density(self.block)

    def stored(self, mask: np.ndarray, name: str) -> float:
        """Return the stored fraction of matrix `name` in this format.

        Raises:
            UsageError: the block does not divide the matrix.
        """
        check_block(mask.shape, self.block, name)
        blocks = int(np.count_nonzero(block_scores(mask, self.block)))
        return blocks * self.block[0] * self.block[1] / mask.size


def candidates(
    format: str, block: tuple[int, int] | None = None, own_block: tuple[int, int] | None = None
) -> list[StorageFormat]:
    """List the storage formats to consider.

    Args:
        format: "csr", "bsr", or "auto" for both.
        block: block of bsr that the user chose, if any.
        own_block: block that the model was pruned in, (1, 1) without blocks; None if it is unknown.

    Raises:
        UsageError: an unknown format, one for files alone, or a block for a format without blocks.
        ExportError: a known format that has no kernel.
    """
    if format == AUTO:
        model_block = own_block if own_block != (1, 1) else None
        return [StorageFormat("csr", (1, 1)), StorageFormat("bsr", block or model_block or _BLOCK)]
    op_for(format)
    if FORMATS.get(format).for_files:
        raise UsageError(
            f"format {format!r} is for files; use 'csr', to which it is unpacked when a file is loaded"
        )
    if FORMATS.get(format).blocked:
        return [StorageFormat(format, block or own_block or _BLOCK)]
    if block is not None:
        raise UsageError(
            f"block {block[0]}x{block[1]} does not apply to format {format!r}, which has no blocks"
        )
    return [StorageFormat(format, (1, 1))]


def select(
    name: str, mask: np.ndarray, formats: Sequence[StorageFormat], max_density: float | None = None
) -> StorageFormat | None:
    """Select the format predicted to be fastest for matrix `name`; None if dense is.

    The predicted time is proportional to the stored entries and equals the dense time at the break-even. If there are
    several formats, those whose blocks do not divide the matrix are skipped.

    Raises:
        UsageError: there is only one format, and its block does not divide the matrix.
    """
    fractions = {
        storage: storage.stored(mask, name)
        for storage in formats
        if len(formats) == 1 or not (mask.shape[0] % storage.block[0] or mask.shape[1] % storage.block[1])
    }
    faster = [
        storage
        for storage, fraction in fractions.items()
        if fraction <= (storage.break_even if max_density is None else max_density)
    ]
    return min(faster, key=lambda storage: fractions[storage] / storage.break_even, default=None)
