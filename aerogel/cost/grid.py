"""Measure matrix products, packed and dense, over a grid of shapes, densities and numbers of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.cost.fit import fit_costs
from aerogel.cost.masks import random_mask
from aerogel.cost.measure import CACHE_BYTES, DRAM_BYTES, Stopwatch
from aerogel.cost.model import SLOT_FRACTIONS, packed_features, token_counts
from aerogel.cost.models import dense_layers, format_of, pack, packed_layers
from aerogel.cost.packed_shape import PANEL_ROWS, column_features, packed_shape_of
from aerogel.ops.value_type import VALUE_TYPES

__all__ = ["PackedKernel", "measure_dense", "measure_packed", "packed_kernels", "sample_count"]

# (out, in), fraction of slots stored, whether rows and columns are uneven. The empty matrices show the cost of
# rearranging activations alone.
_SAMPLES = (
    *(((768, 768), fraction, False) for fraction in SLOT_FRACTIONS),
    ((384, 384), 0.1, True), ((1536, 384), 0.2, True), ((384, 1536), 0.1, True), ((768, 3072), 0.1, True),
    ((3072, 768), 0.1, True),
    ((768, 768), 0.0, False), ((1536, 384), 0.0, False), ((384, 1536), 0.0, False), ((1024, 384), 0.0, False),
)  # fmt: skip
_DENSE = ((384, 384), (768, 768), (1536, 384), (384, 1536), (3072, 768), (768, 3072))
# Every copy of a matrix reads the same input. Too few copies overstate the cost of loading that input, which a layer
# in a model finds in the cache. Filling a cache with tiny matrices would take hundreds of copies, and no real model
# has that many.
_MIN_COPIES, _MAX_COPIES = 3, 50
_DISTINCT_COPIES = 5
_MIN_DENSE_COPIES, _MAX_DENSE_COPIES = 8, 32

Costs = list[list[float]]
"""Seconds per unit of each feature, ``[token counts][features]``."""


@dataclass(frozen=True)
class PackedKernel:
    """A sparse kernel of the native library.

    Attributes:
        weights: value type.
        panel_rows: rows of a panel.
    """

    weights: str
    panel_rows: int

    @property
    def name(self) -> str:
        """The same name as `aerogel.cost.packed_shape.PackedShape.kernel`, such as "fp32-4"."""
        return f"{self.weights}-{self.panel_rows}"

    @property
    def block(self) -> tuple[int, int]:
        """The smallest block (rows, cols) that the kernel stores without padding."""
        return self.panel_rows, column_features(self.weights)


def packed_kernels() -> list[PackedKernel]:
    """Every combination of value type and panel rows."""
    return [PackedKernel(weights, rows) for weights in VALUE_TYPES.names() for rows in PANEL_ROWS]


def measure_packed(
    watch: Stopwatch, kernel: PackedKernel, vector_width: int, advance: Callable[[], None]
) -> tuple[Costs, Costs]:
    """Measure one kernel with cache-resident weights and with DRAM-resident weights.

    Args:
        watch: times the models.
        kernel: the kernel.
        vector_width: tokens in a vector.
        advance: called after each matrix, `sample_count` times.

    Returns:
        Costs of `aerogel.cost.model.packed_features`, cache-resident and DRAM-resident.
    """
    random = np.random.default_rng(0)
    features, cache_resident, dram_resident = [], [], []
    for shape, fraction, skewed in _SAMPLES:
        mask = random_mask(shape, fraction, kernel.block, random, skewed=skewed)
        packed = pack(mask, kernel.block, kernel.weights, random, _DISTINCT_COPIES)
        packed_shape = packed_shape_of(packed[0], shape)
        copies = int(min(max(CACHE_BYTES / max(packed_shape.bytes, 1), _MIN_COPIES), _MAX_COPIES))
        matrices = [packed[i % _DISTINCT_COPIES] for i in range(copies)]
        model = packed_layers(format_of(kernel.block), kernel.weights, matrices, shape)
        timed = watch.load(model, library=True)
        inputs = _inputs(shape[1], vector_width, random)
        features.append(packed_features(packed_shape))
        cache_resident.append([timed.seconds(x, cached=True) / copies for x in inputs])
        dram_resident.append([timed.seconds(x) / copies for x in inputs])
        advance()
    return _fit(features, cache_resident), _fit(features, dram_resident)


def measure_dense(watch: Stopwatch, vector_width: int, advance: Callable[[], None]) -> Costs:
    """Costs of ONNX Runtime's dense product and bias addition, with DRAM-resident weights.

    See `measure_packed` for the arguments.
    """
    random = np.random.default_rng(0)
    features, seconds = [], []
    for shape in _DENSE:
        size = shape[0] * shape[1]
        copies = min(max(DRAM_BYTES // (8 * size), _MIN_DENSE_COPIES), _MAX_DENSE_COPIES)
        timed = watch.load(dense_layers(copies, shape, random), library=False)
        features.append([1, shape[1], shape[0], size])
        seconds.append([timed.seconds(x) / copies for x in _inputs(shape[1], vector_width, random)])
        advance()
    return _fit(features, seconds)


def sample_count(kernel: PackedKernel | None) -> int:
    """Number of matrices that are measured for a kernel, or for the dense product if None."""
    return len(_SAMPLES) if kernel else len(_DENSE)


def _inputs(features: int, vector_width: int, random: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """One input ``[1, tokens, features]`` for each measured number of tokens."""
    return [
        {"x": random.standard_normal((1, tokens, features), np.float32)}
        for tokens in token_counts(vector_width)
    ]


def _fit(features: Sequence[Sequence[float] | np.ndarray], seconds: Sequence[Sequence[float]]) -> Costs:
    """Fit the costs of each number of tokens separately."""
    by_tokens = np.array(seconds).T
    return [fit_costs(np.array(features, float), times).tolist() for times in by_tokens]
