"""What a calibration says: the time of a product, of the rest of an encoder's layer, and where packing breaks even.

A product with a packed matrix of `places` stored in a share s of them takes, for a number of tokens,

    t = c + c_in in + c_out out + c_page out [out is a multiple of 1024] + c_length lengths + out in g(s)

The first terms are bringing activations into the kernels' order and back, and the sums' beginning. Where results of
neighbouring tokens lie a multiple of 4096 bytes apart, they meet in the same few lines of the first-level cache. For
`lengths` see `aerogel.cost.packed_shape`; g is linear between the shares that were measured, and g(0) = 0. There is
a set of costs for each kind of kernel, each of several numbers of tokens, and for weights that come from the shared
caches and from memory. A dense product takes

    t = c + c_in in_features + c_out out_features + c_weight in_features out_features

Between the numbers of tokens that were measured times are interpolated; beyond the largest they grow as between the
last two. Kernels take tokens in whole vectors, in tiles of 1, 2 or 4 of them, and are charged so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.cost.machine import Machine
from aerogel.cost.measure import FAR_BYTES, NEAR_BYTES
from aerogel.cost.packed_shape import PackedShape

__all__ = [
    "RESTS",
    "SHARES",
    "CostModel",
    "EncoderShape",
    "product_features",
    "rest_features",
    "token_counts",
]

SHARES = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Shares of places at which products are measured."""

RESTS = ("dense", "fp32", "int8")
"""Whose layers' rest is measured: ONNX Runtime's, and those of fused encoders of float and of eight-bit products."""

_PAGE = 1024  # floats
_EDGES = 4  # costs of what a fused encoder does otherwise, the first ones


@dataclass(frozen=True)
class EncoderShape:
    """A stack of post-LayerNorm layers.

    Attributes:
        layers: how many there are.
        hidden: features between them.
        inner: features inside a feed-forward network.
        heads: heads of the attention.
    """

    layers: int
    hidden: int
    inner: int
    heads: int

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(out, in) of the matrices of a layer."""
        square = (self.hidden, self.hidden)
        return [square, square, square, square, (self.inner, self.hidden), (self.hidden, self.inner)]


@dataclass(frozen=True)
class CostModel:
    """Costs in seconds, measured on one machine.

    Attributes:
        host: the machine.
        time: when, UTC, ISO 8601.
        near: by kind of kernel, costs ``[tokens][...]`` of `product_features`, with weights in shared caches.
        far: the same with weights in memory.
        dense: costs ``[tokens][4]``, weights in memory.
        rest: of "dense" (ONNX Runtime) and of the fused encoder by type of values, costs of `rest_features`.
    """

    host: Machine
    time: str
    near: Mapping[str, Sequence[Sequence[float]]]
    far: Mapping[str, Sequence[Sequence[float]]]
    dense: Sequence[Sequence[float]]
    rest: Mapping[str, Sequence[float]]

    def packed(
        self, product: PackedShape, tokens: int, total: float | None = None, *, edges: bool = True
    ) -> float:
        """Seconds of a product with a packed matrix.

        Args:
            product: the matrix.
            tokens: rows of the activations.
            total: bytes of all packed matrices of the model, see `Product.bytes`; None for many.
            edges: as an operator of its own, with its activations brought in order; else inside a fused encoder.
        """
        features = product_features(product)
        if not edges:
            features[:_EDGES] = 0
        far = _farness(total)
        rows = (1 - far) * np.array(self.near[product.kind]) + far * np.array(self.far[product.kind])
        return self._at(_whole_vectors(tokens, self.host.width), rows @ features)

    def full(self, shape: tuple[int, int], tokens: int) -> float:
        """Seconds of a dense product and the addition of its bias, by ONNX Runtime."""
        out, inside = shape
        return self._at(tokens, np.array(self.dense) @ np.array([1.0, inside, out, inside * out]))

    def layer_rest(
        self, kind: str, shape: EncoderShape, batch: int, sequence: int, queries: int | None = None
    ) -> float:
        """Seconds of all but the products of one layer: attention, activation, normalisation.

        Args:
            kind: one of `RESTS`.
            shape: the encoder.
            batch: sequences.
            sequence: tokens of each.
            queries: of those, tokens whose results are computed; None for all.
        """
        return float(np.dot(self.rest[kind], rest_features(shape, batch, sequence, queries)))

    def unpacked(self, product: PackedShape, tokens: int) -> float:
        """Seconds of the matrix if it is not worth packing: dense, or all of it stored where the type has no other."""
        if product.has_dense_form:
            return self.full(product.shape, tokens)
        return self.packed(product.whole(), tokens)

    def break_even(self, product: PackedShape, tokens: int) -> float:
        """Entries stored, over all, at which a matrix like `product` is as fast packed as not; 1 if it always is.

        Entries are taken to be spread evenly and weights to come from memory.
        """
        other = self.unpacked(product, tokens)
        low, high = 0.0, 1.0
        if self.packed(product.at(high), tokens) <= other:
            return high
        for _ in range(20):
            middle = (low + high) / 2
            pays = self.packed(product.at(middle), tokens) <= other
            low, high = (middle, high) if pays else (low, middle)
        return low

    def _at(self, tokens: int, seconds: np.ndarray) -> float:
        """The time for `tokens`, from those for each of `token_counts`."""
        counts = token_counts(self.host.width)
        if tokens <= counts[-1]:
            return float(np.interp(tokens, counts, seconds))
        slope = (seconds[-1] - seconds[-2]) / (counts[-1] - counts[-2])
        return float(seconds[-1] + max(slope, 0.0) * (tokens - counts[-1]))


def token_counts(width: int) -> list[int]:
    """Numbers of tokens to measure at: parts of a tile, one, two and several, for vectors of `width`, at most 16."""
    return [*(width * vectors for vectors in (1, 2, 4, 8)), 256]


def product_features(product: PackedShape) -> np.ndarray:
    """What the time of a packed product is a sum of."""
    out, inside = product.shape
    knots = (0.0, *SHARES)
    shares = [float(np.interp(product.share, knots, hat)) for hat in np.eye(len(knots))[1:]]
    pages = out if out % _PAGE == 0 else 0
    return np.array([1.0, inside, out, pages, product.lengths, *(out * inside * share for share in shares)])


def rest_features(shape: EncoderShape, batch: int, sequence: int, queries: int | None = None) -> np.ndarray:
    """What the time of a layer without its products is a sum of; see `Calibration.layer_rest`."""
    tokens = batch * (queries or sequence)
    pairs = tokens * sequence
    return np.array(
        [1.0, tokens * shape.hidden, tokens * shape.inner, pairs * shape.hidden, pairs * shape.heads]
    )


def _whole_vectors(tokens: int, width: int) -> int:
    tile = 4 * width
    full, rest = divmod(tokens, tile)
    taken = next(size for size in (0, width, 2 * width, tile) if rest <= size)
    return full * tile + taken


def _farness(total: float | None) -> float:
    """How far weights are: 0 in the shared caches, 1 in memory."""
    if total is None:
        return 1.0
    return min(max(math.log(max(total, 1) / NEAR_BYTES) / math.log(FAR_BYTES / NEAR_BYTES), 0.0), 1.0)
