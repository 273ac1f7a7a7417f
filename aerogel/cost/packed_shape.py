"""What the time of a product with a packed matrix depends on.

The kernels walk panels: the rows that share their columns, 1, 2 or 4 of them. A column is one feature, or four
neighbouring ones of int8 values. The time grows with the stored slots, the pairs (panel, column) that are not empty.
Columns are processed tile by tile, and in a tile the panels of one length together: each length adds a cost, which
matters where rows are few and uneven. The native library reports these numbers (`aerogel.kernels.cpu.native`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from aerogel.kernels.cpu import native
from aerogel.ops.value_type import VALUE_TYPES

__all__ = ["HEIGHTS", "PackedShape", "column_features", "packed_shape_of"]

HEIGHTS = (4, 2, 1)
"""Rows that panels can have, the kernels' first choice first."""

_KINDS = {"float32": "fp32", "float16": "fp16", "int8": "int8"}


@dataclass(frozen=True)
class PackedShape:
    """A packed matrix, as far as the time of its product depends on it.

    Attributes:
        shape: (out_features, in_features).
        weights: type of its values.
        height: rows of a panel.
        share: stored slots over all.
        stored: entries that the file stores, over all entries.
        fill: features of a column that a stored block covers, 1 to `column_features(weights)`.
        lengths: in each chunk of rows and tile of columns the different lengths of panels, added up.
        segments: chunks times tiles.
    """

    shape: tuple[int, int]
    weights: str
    height: int
    share: float
    stored: float
    fill: int
    lengths: int
    segments: int

    @property
    def kind(self) -> str:
        """Name of the kernel that multiplies it."""
        return f"{self.weights}-{self.height}"

    @property
    def bytes(self) -> float:
        """Bytes that a product reads of it: values of the stored slots and a byte for the column of each."""
        slots = self.shape[0] * self.shape[1] * self.share
        value = {"fp32": 4, "fp16": 2, "int8": 1}[self.weights]
        return slots * (value + 1 / self.height / column_features(self.weights))

    @property
    def has_dense_form(self) -> bool:
        """Whether the matrix could stand in the model as an ordinary dense one."""
        return VALUE_TYPES.get(self.weights).dense

    def whole(self) -> PackedShape:
        """The same matrix with every slot stored, in panels as high as its sides allow: one length a segment."""
        out, inside = self.shape
        height = 4 if out % 4 == 0 and inside % 4 == 0 else 1
        features = column_features(self.weights)
        return PackedShape(self.shape, self.weights, height, 1.0, 1.0, features, self.segments, self.segments)

    def at(self, stored: float) -> PackedShape:
        """The same matrix with other entries stored, spread evenly."""
        # A slot is stored if any of the blocks in it is.
        blocks = column_features(self.weights) // self.fill
        return replace(self, stored=stored, share=1 - (1 - stored) ** blocks)


def column_features(weights: str) -> int:
    """Neighbouring features that are one column to the kernels."""
    return 4 if weights == "int8" else 1


def packed_shape_of(arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> PackedShape:
    """The product of a matrix of `shape` with packed arrays, CSR or BSR.

    Raises:
        FormatError: the arrays are malformed.
        RuntimeLoadError: the native library, which packs matrices for this machine, is not built.
    """
    data = arrays["data"]
    stats = native.matrix_stats(arrays, shape[1])
    block_cols = data.shape[2] if data.ndim > 1 else 1
    return PackedShape(
        shape,
        _KINDS[data.dtype.name],
        stats.panel_rows,
        share=stats.slots / stats.all_slots,
        stored=data.size / (shape[0] * shape[1]),
        fill=math.gcd(block_cols, stats.column_features),
        lengths=stats.groups,
        segments=stats.chunks * stats.tiles,
    )
