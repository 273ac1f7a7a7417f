"""The properties of a packed matrix that determine the time of its product.

The kernels process panels: 1, 2 or 4 rows that share their columns. A column is one feature, or four neighbouring
features of int8 values. A slot is a pair (panel, column); the time grows with the number of stored slots, the ones that
are not empty. Columns are processed in tiles, and in each tile the panels of equal length are processed together. Every
distinct length adds a cost, which matters if rows are few and uneven. The native library reports these numbers
(`aerogel.kernels.cpu.native.matrix_stats`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from aerogel.kernels.cpu import native
from aerogel.ops.value_type import VALUE_TYPES

__all__ = ["PANEL_ROWS", "PackedShape", "column_features", "packed_shape_of"]

PANEL_ROWS = (4, 2, 1)
"""Possible rows of a panel, the kernels' first choice first."""

_VALUE_TYPES = {"float32": "fp32", "float16": "fp16", "int8": "int8"}


@dataclass(frozen=True)
class PackedShape:
    """A packed matrix, reduced to what determines the time of its product.

    Attributes:
        shape: (out_features, in_features).
        weights: value type.
        panel_rows: rows of a panel.
        slot_fraction: stored slots over all slots.
        stored_fraction: stored entries over all entries.
        block_features: features of a column that one stored block covers, 1 to `column_features(weights)`.
        row_lengths: number of distinct panel lengths, summed over all segments.
        segments: row chunks times column tiles.
    """

    shape: tuple[int, int]
    weights: str
    panel_rows: int
    slot_fraction: float
    stored_fraction: float
    block_features: int
    row_lengths: int
    segments: int

    @property
    def kernel(self) -> str:
        """Name of the kernel that multiplies this matrix, such as "fp32-4"."""
        return f"{self.weights}-{self.panel_rows}"

    @property
    def bytes(self) -> float:
        """Bytes that one product reads: the values of the stored slots, and one byte of column index per slot."""
        entries = self.shape[0] * self.shape[1] * self.slot_fraction
        value = {"fp32": 4, "fp16": 2, "int8": 1}[self.weights]
        return entries * (value + 1 / self.panel_rows / column_features(self.weights))

    @property
    def has_dense_form(self) -> bool:
        """Whether the matrix could be an ordinary dense initializer of the model."""
        return VALUE_TYPES.get(self.weights).dense

    def fully_stored(self) -> PackedShape:
        """The same matrix with every slot stored, in the highest panels that its shape allows."""
        out, inside = self.shape
        panel_rows = 4 if out % 4 == 0 and inside % 4 == 0 else 1
        return PackedShape(
            self.shape, self.weights, panel_rows, slot_fraction=1.0, stored_fraction=1.0,
            block_features=column_features(self.weights), row_lengths=self.segments, segments=self.segments,
        )  # fmt: skip

    def with_stored_fraction(self, fraction: float) -> PackedShape:
        """The same matrix with another fraction of its entries stored, spread evenly."""
        # A slot is stored if any of its blocks is.
        blocks = column_features(self.weights) // self.block_features
        return replace(self, stored_fraction=fraction, slot_fraction=1 - (1 - fraction) ** blocks)


def column_features(weights: str) -> int:
    """Number of neighbouring features that the kernels treat as one column."""
    return 4 if weights == "int8" else 1


def packed_shape_of(arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> PackedShape:
    """The `PackedShape` of a matrix (out, in) whose `arrays` are as kernels read them, CSR or BSR.

    Raises:
        FormatError: the arrays are malformed.
        RuntimeLoadError: the native library, which packs matrices for this machine, is not built.
    """
    data = arrays["data"]
    stats = native.matrix_stats(arrays, shape[1])
    block_cols = data.shape[2] if data.ndim > 1 else 1
    return PackedShape(
        shape,
        _VALUE_TYPES[data.dtype.name],
        stats.panel_rows,
        slot_fraction=stats.slots / stats.all_slots,
        stored_fraction=data.size / (shape[0] * shape[1]),
        block_features=math.gcd(block_cols, stats.column_features),
        row_lengths=stats.groups,
        segments=stats.chunks * stats.tiles,
    )
