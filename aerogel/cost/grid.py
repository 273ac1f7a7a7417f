"""Measuring products: which matrices, how often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.cost.fit import costs
from aerogel.cost.masks import random_mask
from aerogel.cost.measure import FAR_BYTES, NEAR_BYTES, Stopwatch
from aerogel.cost.model import SHARES, product_features, token_counts
from aerogel.cost.models import dense_layers, format_of, pack, packed_layers
from aerogel.cost.packed_shape import HEIGHTS, column_features, packed_shape_of
from aerogel.ops.value_type import VALUE_TYPES

__all__ = ["PackedKind", "kinds", "measure_dense", "measure_packed", "samples"]

# (out, in), share of places, whether rows and columns are uneven. Nothing stored shows what the edges cost.
_SAMPLES = (
    *(((768, 768), share, False) for share in SHARES),
    ((384, 384), 0.1, True), ((1536, 384), 0.2, True), ((384, 1536), 0.1, True), ((768, 3072), 0.1, True),
    ((3072, 768), 0.1, True),
    ((768, 768), 0.0, False), ((1536, 384), 0.0, False), ((384, 1536), 0.0, False), ((1024, 384), 0.0, False),
)  # fmt: skip
_DENSE = ((384, 384), (768, 768), (1536, 384), (384, 1536), (3072, 768), (768, 3072))
# Few copies show what reading their input anew costs, which a layer in a model does not. Hundreds of a tiny matrix
# would be needed to fill a cache, which a model that has such does not either.
_LEAST_COPIES, _MOST_COPIES = 3, 50
_DIFFERENT = 5
_LEAST_DENSE, _MOST_DENSE = 8, 32

Costs = list[list[float]]


@dataclass(frozen=True)
class PackedKind:
    """A kind of kernel: type of values, rows of a panel."""

    weights: str
    height: int

    @property
    def name(self) -> str:
        """As `aerogel.cost.packed_shape.PackedShape.kind` has it."""
        return f"{self.weights}-{self.height}"

    @property
    def block(self) -> tuple[int, int]:
        """The smallest block that the kernel stores without filling it up."""
        return self.height, column_features(self.weights)


def kinds() -> list[PackedKind]:
    """All kinds there are."""
    return [PackedKind(weights, height) for weights in VALUE_TYPES.names() for height in HEIGHTS]


def measure_packed(
    watch: Stopwatch, kind: PackedKind, width: int, done: Callable[[], None]
) -> tuple[Costs, Costs]:
    """Costs of a kind of kernel with weights in shared caches, and in memory.

    Args:
        watch: measures.
        kind: the kernel.
        width: tokens in a vector.
        done: called after each matrix; there are as many as `samples` says.
    """
    random = np.random.default_rng(0)
    features, near, far = [], [], []
    for shape, share, skewed in _SAMPLES:
        mask = random_mask(shape, share, kind.block, random, skewed=skewed)
        packed = pack(mask, kind.block, kind.weights, random, _DIFFERENT)
        product = packed_shape_of(packed[0], shape)
        copies = int(min(max(NEAR_BYTES / max(product.bytes, 1), _LEAST_COPIES), _MOST_COPIES))
        chosen = [packed[i % _DIFFERENT] for i in range(copies)]
        model = packed_layers(format_of(kind.block), kind.weights, chosen, shape)
        timed = watch.open(model, library=True)
        inputs = _inputs(shape[1], width, random)
        features.append(product_features(product))
        near.append([timed.seconds(x, near=True) / copies for x in inputs])
        far.append([timed.seconds(x) / copies for x in inputs])
        done()
    return _fit(features, near), _fit(features, far)


def measure_dense(watch: Stopwatch, width: int, done: Callable[[], None]) -> Costs:
    """Costs of ONNX Runtime's dense product and addition, with weights in memory; `done` as in `measure_packed`."""
    random = np.random.default_rng(0)
    features, far = [], []
    for shape in _DENSE:
        size = shape[0] * shape[1]
        copies = min(max(FAR_BYTES // (8 * size), _LEAST_DENSE), _MOST_DENSE)
        timed = watch.open(dense_layers(copies, shape, random), library=False)
        features.append([1, shape[1], shape[0], size])
        far.append([timed.seconds(x) / copies for x in _inputs(shape[1], width, random)])
        done()
    return _fit(features, far)


def samples(kind: PackedKind | None) -> int:
    """Matrices that measuring a kind takes; of dense ones if None."""
    return len(_SAMPLES) if kind else len(_DENSE)


def _inputs(features: int, width: int, random: np.random.Generator) -> list[dict[str, np.ndarray]]:
    return [
        {"x": random.standard_normal((1, tokens, features), np.float32)} for tokens in token_counts(width)
    ]


def _fit(features: Sequence[Sequence[float] | np.ndarray], seconds: Sequence[Sequence[float]]) -> Costs:
    """Costs for each number of tokens."""
    by_tokens = np.array(seconds).T
    return [costs(np.array(features, float), times).tolist() for times in by_tokens]
