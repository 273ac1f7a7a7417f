"""What a storage format is: a name and four pure functions over named arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from aerogel.errors import FormatError

__all__ = ["Arrays", "Format", "check_compressed", "index_dtype", "row_pointers"]

Arrays = dict[str, np.ndarray]

# Column indices fit 16 bits for every encoder in use, which makes CSR 6 bytes a nonzero instead of 8.
_UINT16_COLUMNS = 65_536
_MOST_ENTRIES = 2**31 - 1


class Format(ABC):
    """One storage format for a masked matrix.

    Attributes:
        names: the arrays a matrix is stored as, in their order in files and as node inputs.
        blocked: whether it stores whole blocks, so that a block shape means something to it.
    """

    names: tuple[str, ...]
    blocked: bool = False

    @abstractmethod
    def encode(self, weight: np.ndarray, mask: np.ndarray, block: tuple[int, int] = (1, 1)) -> Arrays:
        """Pack the entries of `weight` ``[out, in]`` that `mask` keeps. Kept zeros are stored."""

    @abstractmethod
    def decode(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """The dense ``[out, in]`` weight: kept entries bit for bit, zeros elsewhere."""

    @abstractmethod
    def check(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int], *, full: bool = False) -> None:
        """Raise FormatError if the arrays break the format's rules.

        The cheap check looks at dtypes, shapes and the ends of indptr; `full` reads every index as well.
        """


def index_dtype(in_features: int) -> type[np.uint16] | type[np.int32]:
    """Dtype of column indices for a matrix of `in_features` columns."""
    return np.uint16 if in_features <= _UINT16_COLUMNS else np.int32


def row_pointers(counts: np.ndarray) -> np.ndarray:
    """indptr, int32 ``[rows + 1]``, of rows with so many entries: ``indptr[i + 1] = sum(counts[:i + 1])``.

    Raises:
        FormatError: there are more entries than 32 bits count.
    """
    ends = np.cumsum(counts, dtype=np.int64)
    if len(ends) and ends[-1] > _MOST_ENTRIES:
        raise FormatError(
            f"{ends[-1]} entries are more than the {_MOST_ENTRIES} that indptr can count; prune more, or keep it dense"
        )
    return np.concatenate(([0], ends)).astype(np.int32)


def check_compressed(
    arrays: Mapping[str, np.ndarray], rows: int, cols: int, entries: int, *, full: bool
) -> None:
    """The rules CSR and BSR share: `rows` compressed rows over `cols` columns, `entries` stored entries.

    indptr starts at 0, never falls and ends at `entries`; the indices of one row ascend strictly within [0, cols).
    """
    indices, indptr = arrays["indices"], arrays["indptr"]
    if indices.dtype not in (np.uint16, np.int32) or indices.ndim != 1:
        raise FormatError(
            f"indices must be uint16 or int32 of one dimension, not {indices.dtype}{list(indices.shape)}"
        )
    if indptr.dtype != np.int32 or indptr.shape != (rows + 1,):
        raise FormatError(f"indptr must be int32[{rows + 1}], not {indptr.dtype}{list(indptr.shape)}")
    if len(indices) != entries:
        raise FormatError(f"indices has {len(indices)} entries where data has {entries}")
    if indptr[0] != 0 or indptr[-1] != entries:
        raise FormatError(f"indptr must run from 0 to {entries}, not from {indptr[0]} to {indptr[-1]}")
    if not full:
        return
    # In 64 bits: a hostile indptr could jump by more than 32 bits hold, and wrap around to look like a rise.
    steps = np.diff(indptr.astype(np.int64))
    if (steps < 0).any():
        row = int(np.argmax(steps < 0))
        raise FormatError(f"indptr falls after row {row}")
    columns = indices.astype(np.int64)
    outside = (columns < 0) | (columns >= cols)
    if outside.any():
        at = int(np.argmax(outside))
        raise FormatError(f"index {columns[at]} at position {at} is outside [0, {cols})")
    within_row = np.ones(max(entries - 1, 0), bool)
    # A step across a row's end may go anywhere; the boundaries are where a later row starts.
    starts = indptr[1:-1]
    starts = starts[(starts > 0) & (starts < entries)]
    within_row[starts - 1] = False
    falls = (np.diff(columns) <= 0) & within_row
    if falls.any():
        at = int(np.argmax(falls)) + 1
        raise FormatError(f"indices do not ascend at position {at}: {columns[at - 1]} then {columns[at]}")
