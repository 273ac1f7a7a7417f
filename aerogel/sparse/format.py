"""Interface of a storage format: pure functions between a masked weight and named arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from aerogel.errors import FormatError

__all__ = ["Arrays", "Format", "check_compressed", "index_dtype", "row_pointers"]

Arrays = dict[str, np.ndarray]

# Column indices of common encoders fit into 16 bits, so CSR takes 6 bytes per nonzero instead of 8.
_UINT16_COLUMNS = 65_536
_MAX_ENTRIES = 2**31 - 1


class Format(ABC):
    """One storage format for a masked matrix.

    Attributes:
        names: names of the arrays, in the order of files and node inputs.
        blocked: whether the format stores whole blocks and uses a block shape.
        for_files: whether kernels multiply by another format, to which `for_kernels` converts.
    """

    names: tuple[str, ...]
    blocked: bool = False
    for_files: bool = False

    @abstractmethod
    def encode(self, weight: np.ndarray, mask: np.ndarray, block: tuple[int, int] = (1, 1)) -> Arrays:
        """Store the entries of `weight` ``[out, in]`` that `mask` keeps, zeros included.

        Raises:
            FormatError: the mask has another shape, or there are more than 2**31 - 1 entries.
        """

    @abstractmethod
    def decode(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """The dense weight ``[out, in]``: kept entries bit for bit, zeros elsewhere.

        Raises:
            FormatError: the arrays break the rules of the format.
        """

    @abstractmethod
    def check(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int], *, full: bool = False) -> None:
        """Check that the arrays follow the rules of the format.

        Args:
            arrays: the arrays by name.
            shape: shape of the weight, (out, in).
            full: check every index too, not only dtypes, shapes and the ends of indptr.

        Raises:
            FormatError: the arrays break a rule.
        """

    def for_kernels(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> Arrays:  # noqa: ARG002
        """The arrays of the same matrix as kernels read it: data, indices and indptr. Others are passed through.

        Args:
            arrays: the arrays by name, perhaps with auxiliary ones of a value type.
            shape: shape of the weight, (out, in).

        Raises:
            FormatError: the arrays break the rules of the format.
        """
        return dict(arrays)


def index_dtype(in_features: int) -> type[np.uint16] | type[np.int32]:
    """Dtype of column indices for a matrix of `in_features` columns."""
    return np.uint16 if in_features <= _UINT16_COLUMNS else np.int32


def row_pointers(counts: np.ndarray) -> np.ndarray:
    """The int32 indptr ``[rows + 1]`` of rows with `counts` entries: ``indptr[i + 1] = sum(counts[:i + 1])``.

    Raises:
        FormatError: there are more than 2**31 - 1 entries.
    """
    ends = np.cumsum(counts, dtype=np.int64)
    if len(ends) and ends[-1] > _MAX_ENTRIES:
        raise FormatError(
            f"{ends[-1]} entries exceed {_MAX_ENTRIES}, the limit of indptr; prune more or keep the matrix dense"
        )
    return np.concatenate(([0], ends)).astype(np.int32)


def check_compressed(
    arrays: Mapping[str, np.ndarray], rows: int, cols: int, entries: int, *, full: bool
) -> None:
    """Check the rules that CSR and BSR share.

    indptr starts at 0, never decreases and ends at `entries`. The indices of a row increase strictly within [0, cols).

    Args:
        arrays: has ``indices`` and ``indptr``.
        rows: rows, or rows of blocks.
        cols: columns, or columns of blocks.
        entries: stored entries, or stored blocks.
        full: check every index too.

    Raises:
        FormatError: the arrays break a rule.
    """
    indices, indptr = arrays["indices"], arrays["indptr"]
    if indices.dtype not in (np.uint16, np.int32) or indices.ndim != 1:
        raise FormatError(
            f"indices must be one-dimensional uint16 or int32, not {indices.dtype}{list(indices.shape)}"
        )
    if indptr.dtype != np.int32 or indptr.shape != (rows + 1,):
        raise FormatError(f"indptr must be int32[{rows + 1}], not {indptr.dtype}{list(indptr.shape)}")
    if len(indices) != entries:
        raise FormatError(f"indices has {len(indices)} entries where data has {entries}")
    if indptr[0] != 0 or indptr[-1] != entries:
        raise FormatError(f"indptr must run from 0 to {entries}, not from {indptr[0]} to {indptr[-1]}")
    if not full:
        return
    # In 64 bits: differences of untrusted values could overflow 32 bits and look positive.
    steps = np.diff(indptr.astype(np.int64))
    if (steps < 0).any():
        row = int(np.argmax(steps < 0))
        raise FormatError(f"indptr falls after row {row}")
    columns = indices.astype(np.int64)
    outside = (columns < 0) | (columns >= cols)
    if outside.any():
        position = int(np.argmax(outside))
        raise FormatError(f"index {columns[position]} at position {position} is outside [0, {cols})")
    within_row = np.ones(max(entries - 1, 0), bool)
    # An index may be smaller than the one before it where a new row starts.
    starts = indptr[1:-1]
    starts = starts[(starts > 0) & (starts < entries)]
    within_row[starts - 1] = False
    decreases = (np.diff(columns) <= 0) & within_row
    if decreases.any():
        position = int(np.argmax(decreases)) + 1
        raise FormatError(
            f"indices do not ascend at position {position}: {columns[position - 1]}, then {columns[position]}"
        )
