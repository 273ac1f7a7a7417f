"""The cost model: times of matrix products and of a layer's other operations, and the break-even density.

A product with a packed matrix of `slots` slots, a fraction s of which is stored, takes, for a number of tokens,

    t = c + c_in in + c_out out + c_page out [out is a multiple of 1024] + c_length row_lengths + slots g(s)

The terms up to c_page are the cost of rearranging activations for the kernel and back, and of initializing the sums.
If out is a multiple of 1024, results of neighbouring tokens lie a multiple of 4096 bytes apart and compete for the same
lines of the first-level cache. `row_lengths` is described in `aerogel.cost.packed_shape`. g is linear between the
measured fractions, and g(0) = 0. Costs are fitted per kernel, per number of tokens, and for cache-resident and
DRAM-resident weights. A dense product takes

    t = c + c_in in_features + c_out out_features + c_weight in_features out_features

Times are interpolated between the measured numbers of tokens; beyond the largest, they grow with the slope of the last
two. The packed kernels process tokens in whole vectors, in tiles of 1, 2 or 4 vectors, so tokens are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.cost.machine import Machine
from aerogel.cost.measure import CACHE_BYTES, DRAM_BYTES
from aerogel.cost.packed_shape import PackedShape

__all__ = [
    "NON_GEMM_VARIANTS",
    "SLOT_FRACTIONS",
    "CostModel",
    "EncoderShape",
    "non_gemm_features",
    "packed_features",
    "token_counts",
]

SLOT_FRACTIONS = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Fractions of slots stored at which packed products are measured."""

NON_GEMM_VARIANTS = ("dense", "fp32", "int8")
"""Implementations whose non-GEMM ops are measured: ONNX Runtime, and the fused encoder with float or int8 products."""

_PAGE = 1024  # floats
_LAYOUT_FEATURES = 4  # the first features of `packed_features`: rearranging activations


@dataclass(frozen=True)
class EncoderShape:
    """A stack of post-LayerNorm layers.

    Attributes:
        layers: number of layers.
        hidden: features between the layers.
        inner: features inside the feed-forward network.
        heads: attention heads.
    """

    layers: int
    hidden: int
    inner: int
    heads: int

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(out, in) of the six matrices of a layer."""
        square = (self.hidden, self.hidden)
        return [square, square, square, square, (self.inner, self.hidden), (self.hidden, self.inner)]


@dataclass(frozen=True)
class CostModel:
    """Costs in seconds, measured on one machine.

    Attributes:
        machine: the machine.
        time: time of the measurement, UTC, ISO 8601.
        cache_resident: by kernel name, costs ``[token counts][features]`` of `packed_features`, with weights in shared
            caches.
        dram_resident: the same, with weights in DRAM.
        dense: costs ``[token counts][4]`` of a dense product, with weights in DRAM.
        non_gemm: by variant, one of `NON_GEMM_VARIANTS`, costs of `non_gemm_features`.
    """

    machine: Machine
    time: str
    cache_resident: Mapping[str, Sequence[Sequence[float]]]
    dram_resident: Mapping[str, Sequence[Sequence[float]]]
    dense: Sequence[Sequence[float]]
    non_gemm: Mapping[str, Sequence[float]]

    def packed_seconds(
        self, packed: PackedShape, tokens: int, total_bytes: float | None = None, *, fused: bool = False
    ) -> float:
        """Seconds of a product with a packed matrix.

        Args:
            packed: the matrix.
            tokens: rows of the activations.
            total_bytes: sum of `PackedShape.bytes` over the model; None if the weights do not fit into any cache.
            fused: the product runs inside a fused encoder, where activations are not rearranged.
        """
        features = packed_features(packed)
        if fused:
            features[:_LAYOUT_FEATURES] = 0
        dram = _dram_fraction(total_bytes)
        costs = (1 - dram) * np.array(self.cache_resident[packed.kernel])
        costs += dram * np.array(self.dram_resident[packed.kernel])
        return self._interpolate(_whole_vectors(tokens, self.machine.vector_width), costs @ features)

    def dense_seconds(self, shape: tuple[int, int], tokens: int) -> float:
        """Seconds of ONNX Runtime's dense product with a matrix (out, in), and of its bias addition."""
        out, inside = shape
        return self._interpolate(tokens, np.array(self.dense) @ np.array([1.0, inside, out, inside * out]))

    def non_gemm_seconds(
        self, variant: str, shape: EncoderShape, batch: int, sequence: int, queries: int | None = None
    ) -> float:
        """Seconds of one layer's non-GEMM ops: attention, activation, normalization.

        Args:
            variant: one of `NON_GEMM_VARIANTS`.
            shape: the encoder.
            batch: number of sequences.
            sequence: tokens of each sequence.
            queries: tokens of each sequence whose outputs are computed; None for all.
        """
        return float(np.dot(self.non_gemm[variant], non_gemm_features(shape, batch, sequence, queries)))

    def unpacked_seconds(self, packed: PackedShape, tokens: int) -> float:
        """Seconds of the same matrix when it does not pay to prune it.

        That is the dense product, or the packed one with every entry stored if the value type has no dense form.
        """
        if packed.has_dense_form:
            return self.dense_seconds(packed.shape, tokens)
        return self.packed_seconds(packed.fully_stored(), tokens)

    def break_even(self, packed: PackedShape, tokens: int) -> float:
        """Stored fraction at which a matrix like `packed` is as fast as unpacked; 1 if packing always pays.

        Assumes that entries are spread evenly and that weights are DRAM-resident.
        """
        limit = self.unpacked_seconds(packed, tokens)
        low, high = 0.0, 1.0
        if self.packed_seconds(packed.with_stored_fraction(high), tokens) <= limit:
            return high
        for _ in range(20):
            middle = (low + high) / 2
            pays = self.packed_seconds(packed.with_stored_fraction(middle), tokens) <= limit
            low, high = (middle, high) if pays else (low, middle)
        return low

    def _interpolate(self, tokens: int, seconds: np.ndarray) -> float:
        """Time for `tokens`, from the times at each of `token_counts`."""
        counts = token_counts(self.machine.vector_width)
        if tokens <= counts[-1]:
            return float(np.interp(tokens, counts, seconds))
        slope = (seconds[-1] - seconds[-2]) / (counts[-1] - counts[-2])
        return float(seconds[-1] + max(slope, 0.0) * (tokens - counts[-1]))


def token_counts(vector_width: int) -> list[int]:
    """Numbers of tokens that are measured: 1, 2, 4 and 8 vectors, and 256. `vector_width` is at most 16."""
    return [*(vector_width * vectors for vectors in (1, 2, 4, 8)), 256]


def packed_features(packed: PackedShape) -> np.ndarray:
    """Features ``[5 + len(SLOT_FRACTIONS)]`` whose weighted sum is the time of a packed product."""
    out, inside = packed.shape
    knots = (0.0, *SLOT_FRACTIONS)
    hats = [float(np.interp(packed.slot_fraction, knots, hat)) for hat in np.eye(len(knots))[1:]]
    pages = out if out % _PAGE == 0 else 0
    return np.array([1.0, inside, out, pages, packed.row_lengths, *(out * inside * hat for hat in hats)])


def non_gemm_features(
    shape: EncoderShape, batch: int, sequence: int, queries: int | None = None
) -> np.ndarray:
    """Features ``[5]`` whose weighted sum is the time of `CostModel.non_gemm_seconds`."""
    tokens = batch * (queries or sequence)
    scores = tokens * sequence  # per head
    return np.array(
        [1.0, tokens * shape.hidden, tokens * shape.inner, scores * shape.hidden, scores * shape.heads]
    )


def _whole_vectors(tokens: int, width: int) -> int:
    """`tokens` rounded up to tiles of 1, 2 or 4 vectors of `width` tokens."""
    tile = 4 * width
    tiles, remainder = divmod(tokens, tile)
    return tiles * tile + next(size for size in (0, width, 2 * width, tile) if remainder <= size)


def _dram_fraction(total_bytes: float | None) -> float:
    """0 if the weights are cache-resident, 1 if they are DRAM-resident, in between by the logarithm of their size."""
    if total_bytes is None:
        return 1.0
    return min(
        max(math.log(max(total_bytes, 1) / CACHE_BYTES) / math.log(DRAM_BYTES / CACHE_BYTES), 0.0), 1.0
    )
