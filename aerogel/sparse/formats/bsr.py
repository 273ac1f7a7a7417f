"""Block-sparse rows (BSR) as in SciPy: CSR whose entries are r x c blocks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aerogel.errors import FormatError
from aerogel.sparse.format import Arrays, Format, check_compressed, index_dtype, row_pointers
from aerogel.sparse.masks import check_block

__all__ = ["FORMAT", "Bsr"]


class Bsr(Format):
    """data ``[blocks, r, c]``, indices ``[blocks]`` (uint16 or int32), indptr ``[out / r + 1]`` (int32).

    Indices count blocks, not columns. A block with any kept entry is stored as a whole; its pruned entries are stored
    as zeros.
    """

    names = ("data", "indices", "indptr")
    blocked = True

    def encode(self, weight: np.ndarray, mask: np.ndarray, block: tuple[int, int] = (1, 1)) -> Arrays:
        """Store every block that has a kept entry."""
        if weight.ndim != 2 or weight.shape != mask.shape:
            raise FormatError(f"mask {list(mask.shape)} does not match weight {list(weight.shape)}")
        check_block(weight.shape, block)
        r, c = block
        rows, cols = weight.shape[0] // r, weight.shape[1] // c
        kept = mask.reshape(rows, r, cols, c).any(axis=(1, 3))
        blocks = (
            np.where(mask, weight, 0).astype(weight.dtype).reshape(rows, r, cols, c).transpose(0, 2, 1, 3)
        )
        indptr = row_pointers(np.count_nonzero(kept, axis=1))
        return {
            "data": np.ascontiguousarray(blocks[kept]),
            "indices": np.nonzero(kept)[1].astype(index_dtype(weight.shape[1])),
            "indptr": indptr,
        }

    def decode(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """Write the blocks into a matrix of zeros."""
        self.check(arrays, shape, full=True)
        _, r, c = arrays["data"].shape
        dense = np.zeros((shape[0] // r, shape[1] // c, r, c), arrays["data"].dtype)
        rows = np.repeat(np.arange(shape[0] // r), np.diff(arrays["indptr"]))
        dense[rows, arrays["indices"]] = arrays["data"]
        return np.ascontiguousarray(dense.transpose(0, 2, 1, 3)).reshape(shape)

    def check(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int], *, full: bool = False) -> None:
        """See `Format.check`."""
        data = arrays["data"]
        if data.ndim != 3 or 0 in data.shape[1:]:
            raise FormatError(f"data must be [blocks, r, c], not {list(data.shape)}")
        r, c = data.shape[1:]
        if shape[0] % r or shape[1] % c:
            raise FormatError(f"blocks of {r}x{c} do not divide a matrix of {shape[0]}x{shape[1]}")
        check_compressed(arrays, shape[0] // r, shape[1] // c, len(data), full=full)


FORMAT = Bsr()
