"""Bitmask: one bit per weight, set where it is kept, and the kept values in row-major order.

At 10% density of int8 values this takes 1.8 bits a weight, CSR 2.4. It is a format of files: kernels multiply by CSR,
to which the native library unpacks it when a file is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aerogel.errors import FormatError
from aerogel.sparse.format import Arrays, Format, index_dtype, row_pointers

__all__ = ["FORMAT", "Bitmask"]


class Bitmask(Format):
    """data ``[nnz]``, bitmask ``[out, ceil(in / 8)]`` (uint8).

    Bit k % 8 of byte k // 8 of a row, the lowest bit first, is set where column k is kept. The last byte of a row is
    padded with zero bits.
    """

    names = ("data", "bitmask")
    for_files = True

    def encode(
        self,
        weight: np.ndarray,
        mask: np.ndarray,
        block: tuple[int, int] = (1, 1),  # noqa: ARG002 - part of the interface; bitmasks have no blocks
    ) -> Arrays:
        """Store every kept entry; `block` is ignored."""
        if weight.ndim != 2 or weight.shape != mask.shape:
            raise FormatError(f"mask {list(mask.shape)} does not match weight {list(weight.shape)}")
        row_pointers(np.count_nonzero(mask, axis=1))  # refuses more entries than CSR can count
        return {"data": weight[mask], "bitmask": np.packbits(mask, axis=1, bitorder="little")}

    def decode(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """Write the entries into a matrix of zeros."""
        self.check(arrays, shape, full=True)
        dense = np.zeros(shape, arrays["data"].dtype)
        dense[_bits(arrays["bitmask"])[:, : shape[1]]] = arrays["data"]
        return dense

    def check(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int], *, full: bool = False) -> None:
        """See `Format.check`."""
        data, bitmask = arrays["data"], arrays["bitmask"]
        if data.ndim != 1:
            raise FormatError(f"data must have one dimension, not shape {list(data.shape)}")
        expected = (shape[0], (shape[1] + 7) // 8)
        if bitmask.dtype != np.uint8 or bitmask.shape != expected:
            raise FormatError(
                f"bitmask must be uint8{list(expected)}, not {bitmask.dtype}{list(bitmask.shape)}"
            )
        if not full:
            return
        bits = _bits(bitmask)
        if bits[:, shape[1] :].any():
            row = int(np.argmax(bits[:, shape[1] :].any(1)))
            raise FormatError(f"bitmask has a bit set in row {row} beyond its {shape[1]} columns")
        if (found := int(np.count_nonzero(bits))) != len(data):
            raise FormatError(f"bitmask has {found} bits set where data has {len(data)} values")

    def for_kernels(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> Arrays:
        """The same matrix in CSR, with the same data."""
        self.check(arrays, shape, full=True)
        mask = _bits(arrays["bitmask"])[:, : shape[1]]
        indices = np.nonzero(mask)[1].astype(index_dtype(shape[1]))
        others = {name: array for name, array in arrays.items() if name != "bitmask"}
        return {**others, "indices": indices, "indptr": row_pointers(np.count_nonzero(mask, axis=1))}


def _bits(bitmask: np.ndarray) -> np.ndarray:
    """The bits of all rows, padding included, boolean ``[out, 8 * bytes]``."""
    return np.unpackbits(bitmask, axis=1, bitorder="little").astype(bool)


FORMAT = Bitmask()
