"""What the time of a product with a packed matrix depends on.

The kernels walk panels: the rows that share their columns, 1, 2 or 4 of them. A column is one feature, or four
neighbouring ones where values have eight bits. What is stored of the places (panel, column) is what is paid for.
Columns are taken stretch by stretch, and in a stretch the panels of one length together: each length costs something
as well, which is felt where rows are few and uneven.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from aerogel.ops.value_type import WEIGHTS

__all__ = ["HEIGHTS", "Product", "column_features", "product_of"]

HEIGHTS = (4, 2, 1)
"""Rows that panels can have, the kernels' first choice first."""

# Columns. The kernels take 96 of them where the first-level cache has 32 KB, 160 where it has 48.
_STRETCH = 128
_KINDS = {"float32": "fp32", "float16": "fp16", "int8": "int8"}


@dataclass(frozen=True)
class Product:
    """A packed matrix, as far as the time of its product depends on it.

    Attributes:
        shape: (out_features, in_features).
        weights: type of its values.
        height: rows of a panel.
        share: stored places over all.
        stored: entries that the file stores, over all entries.
        fill: features of a column that a stored block covers, 1 to `column_features(weights)`.
        lengths: in each stretch of columns the different lengths of panels, added up.
    """

    shape: tuple[int, int]
    weights: str
    height: int
    share: float
    stored: float
    fill: int
    lengths: int

    @property
    def kind(self) -> str:
        """Name of the kernel that multiplies it."""
        return f"{self.weights}-{self.height}"

    @property
    def bytes(self) -> float:
        """Bytes that a product reads of it: values of the stored places and a byte for the column of each."""
        places = self.shape[0] * self.shape[1] * self.share
        value = {"fp32": 4, "fp16": 2, "int8": 1}[self.weights]
        return places * (value + 1 / self.height / column_features(self.weights))

    @property
    def has_dense_form(self) -> bool:
        """Whether the matrix could stand in the model as an ordinary dense one."""
        return WEIGHTS.get(self.weights).dense

    def whole(self) -> Product:
        """The same matrix with every place stored, in panels as high as its sides allow."""
        out, inside = self.shape
        height = 4 if out % 4 == 0 and inside % 4 == 0 else 1
        features = column_features(self.weights)
        stretches = math.ceil(math.ceil(inside / features) / _STRETCH)
        return Product(self.shape, self.weights, height, 1.0, 1.0, features, stretches)

    def at(self, stored: float) -> Product:
        """The same matrix with other entries stored, spread evenly."""
        # A place is stored if any of the blocks that lie in it is.
        blocks = column_features(self.weights) // self.fill
        return replace(self, stored=stored, share=1 - (1 - stored) ** blocks)


def column_features(weights: str) -> int:
    """Neighbouring features that are one column to the kernels."""
    return 4 if weights == "int8" else 1


def product_of(arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> Product:
    """The product of packed arrays, CSR or BSR, that hold a matrix of `shape`."""
    data, indices, indptr = arrays["data"], arrays["indices"], arrays["indptr"]
    weights = _KINDS[data.dtype.name]
    block_rows, block_cols = data.shape[1:] or (1, 1)
    features = column_features(weights)
    # Columns of every block, in rows of blocks: panels of one such row are alike.
    rows = np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))[:, None]
    columns = (indices.astype(np.int64)[:, None] * block_cols + np.arange(block_cols)) // features
    width = math.ceil(shape[1] / features)
    places = (rows * width + columns).ravel()
    if features > 1:
        places = np.unique(places)
    return Product(
        shape,
        weights,
        next(height for height in HEIGHTS if block_rows % height == 0),
        share=len(places) / (len(indptr) - 1) / width,
        stored=data.size / (shape[0] * shape[1]),
        fill=math.gcd(block_cols, features),
        lengths=_lengths(places, width),
    )


def _lengths(places: np.ndarray, width: int) -> int:
    """Different lengths of panels, by stretches; `places` are row * width + column."""
    stretches = math.ceil(width / _STRETCH)
    in_stretch = places // width * stretches + places % width // _STRETCH
    counts = np.bincount(in_stretch) if len(places) else np.zeros(0, np.int64)
    stretch = np.arange(len(counts)) % stretches
    return len(np.unique((stretch * (_STRETCH + 1) + counts)[counts > 0]))
