"""Compressed sparse rows (CSR) as in SciPy.

Row i has the values ``data[indptr[i]:indptr[i+1]]`` in the columns ``indices[indptr[i]:indptr[i+1]]``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aerogel.errors import FormatError
from aerogel.sparse.format import Arrays, Format, check_compressed, index_dtype, row_pointers

__all__ = ["FORMAT", "Csr"]


class Csr(Format):
    """data ``[nnz]``, indices ``[nnz]`` (uint16 or int32), indptr ``[out + 1]`` (int32)."""

    names = ("data", "indices", "indptr")

    def encode(
        self,
        weight: np.ndarray,
        mask: np.ndarray,
        block: tuple[int, int] = (1, 1),  # noqa: ARG002 - part of the interface; CSR has no blocks
    ) -> Arrays:
        """Store every kept entry; `block` is ignored."""
        if weight.ndim != 2 or weight.shape != mask.shape:
            raise FormatError(f"mask {list(mask.shape)} does not match weight {list(weight.shape)}")
        indptr = row_pointers(np.count_nonzero(mask, axis=1))
        return {
            "data": weight[mask],
            "indices": np.nonzero(mask)[1].astype(index_dtype(weight.shape[1])),
            "indptr": indptr,
        }

    def decode(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """Write the entries into a matrix of zeros."""
        self.check(arrays, shape, full=True)
        dense = np.zeros(shape, arrays["data"].dtype)
        rows = np.repeat(np.arange(shape[0]), np.diff(arrays["indptr"]))
        dense[rows, arrays["indices"]] = arrays["data"]
        return dense

    def check(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int], *, full: bool = False) -> None:
        """See `Format.check`."""
        if arrays["data"].ndim != 1:
            raise FormatError(f"data must have one dimension, not shape {list(arrays['data'].shape)}")
        check_compressed(arrays, shape[0], shape[1], len(arrays["data"]), full=full)


FORMAT = Csr()
