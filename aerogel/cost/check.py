"""Holding a calibration against matrices that it was not made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.cost.masks import random_mask
from aerogel.cost.measure import Stopwatch
from aerogel.cost.model import CostModel
from aerogel.cost.models import dense_layers, format_of, pack, packed_layers
from aerogel.cost.packed_shape import packed_shape_of
from aerogel.sparse.format import Arrays

__all__ = ["Checked", "Totals", "check", "totals"]

Block = tuple[int, int]
# Name, (out, in), blocks' density, block, type of values; rows and columns are uneven.
_MADE: tuple[tuple[str, tuple[int, int], float, Block, str], ...] = (
    ("bert-base, ffn up", (3072, 768), 0.1, (1, 1), "fp32"),
    ("bert-base, ffn down", (768, 3072), 0.1, (1, 1), "fp32"),
    ("bert-base, ffn up", (3072, 768), 0.2, (1, 1), "fp16"),
    ("bert-base, ffn down", (768, 3072), 0.1, (4, 1), "fp32"),
    ("bert-base, ffn up", (3072, 768), 0.1, (1, 1), "int8"),
    ("bert-base, ffn down", (768, 3072), 0.1, (1, 4), "int8"),
    ("bert-base, attention", (768, 768), 0.07, (1, 1), "fp32"),
    ("bert-base, attention", (768, 768), 0.3, (16, 16), "fp32"),
    ("bert-base, attention", (768, 768), 0.3, (4, 4), "int8"),
    ("bert-large, attention", (1024, 1024), 0.1, (1, 1), "fp32"),
    ("bert-large, ffn up", (4096, 1024), 0.05, (2, 1), "fp32"),
    ("electra-small, ffn up", (1024, 256), 0.3, (4, 1), "fp16"),
)
# The ways in which the matrices of a checkpoint are packed: block and type of values.
_WAYS: tuple[tuple[Block, str], ...] = (((1, 1), "fp32"), ((1, 1), "int8"))
_DENSE = ((768, 768), (4096, 1024), (256, 1024))
_COPIES = 8


@dataclass(frozen=True)
class Checked:
    """One kind of matrix, predicted and measured.

    Attributes:
        name: what it is of.
        shape: (out, in).
        kind: "dense", or how it is packed.
        stored: entries that are stored, over all.
        tokens: rows of the activations.
        predicted, measured: seconds of one product, the mean where there are several matrices.
        count: matrices.
    """

    name: str
    shape: tuple[int, int]
    kind: str
    stored: float
    tokens: int
    predicted: float
    measured: float
    count: int

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured


@dataclass(frozen=True)
class Totals:
    """How far predictions are off.

    Attributes:
        ratio: all that was predicted over all that was measured.
        mean: mean distance of the ratios from 1.
        within: share of the ratios within 15% of 1.
    """

    ratio: float
    mean: float
    within: float


def check(
    calibration: CostModel,
    masks: Mapping[str, np.ndarray],
    tokens: Sequence[int] = (128,),
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Checked]:
    """Measure matrices on this machine and predict the same.

    Args:
        calibration: what predicts.
        masks: of a real checkpoint, boolean ``[out, in]`` by name; may be empty.
        tokens: rows of the activations.
        progress: told (stage, steps done, steps in all).
    """
    watch = Stopwatch(calibration.host.threads)
    random = np.random.default_rng(1)
    groups = _groups(masks)
    total = len(_MADE) + len(groups) * len(_WAYS) + len(_DENSE)
    found: list[Checked] = []
    for shape in _DENSE:
        timed = watch.open(dense_layers(_COPIES, shape, random), library=False)
        for count in tokens:
            seconds = timed.seconds(_input(count, shape, random)) / _COPIES
            found.append(Checked("", shape, "dense", 1.0, count, calibration.full(shape, count), seconds, 1))
        progress("check", len({(c.name, c.shape, c.kind) for c in found}), total)
    for number, (name, shape, block, weights, packed) in enumerate(_packed(groups, random), len(_DENSE) + 1):
        found += _measure(calibration, watch, name, shape, (block, weights), packed, tokens, random)
        progress("check", number, total)
    return found


def totals(found: Sequence[Checked]) -> Totals:
    """The errors of several predictions together."""
    ratios = np.array([c.ratio for c in found])
    return Totals(
        sum(c.predicted * c.count for c in found) / sum(c.measured * c.count for c in found),
        float(np.abs(ratios - 1).mean()),
        float((np.abs(ratios - 1) <= 0.15).mean()),
    )


def _groups(masks: Mapping[str, np.ndarray]) -> dict[tuple[int, int], list[np.ndarray]]:
    """Masks of a checkpoint by their shape."""
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for mask in masks.values():
        found.setdefault((mask.shape[0], mask.shape[1]), []).append(mask)
    return found


def _packed(
    groups: Mapping[tuple[int, int], Sequence[np.ndarray]], random: np.random.Generator
) -> Iterator[tuple[str, tuple[int, int], Block, str, list[Arrays]]]:
    for name, shape, density, block, weights in _MADE:
        mask = random_mask(shape, density, block, random, skewed=True)
        yield name, shape, block, weights, pack(mask, block, weights, random, _COPIES)
    for shape, members in groups.items():
        for block, weights in _WAYS:
            packed = [pack(mask, block, weights, random)[0] for mask in members]
            yield f"checkpoint, {len(members)} matrices", shape, block, weights, packed


def _measure(
    calibration: CostModel,
    watch: Stopwatch,
    name: str,
    shape: tuple[int, int],
    way: tuple[Block, str],
    packed: Sequence[Arrays],
    tokens: Sequence[int],
    random: np.random.Generator,
) -> list[Checked]:
    block, weights = way
    form = format_of(block)
    products = [packed_shape_of(arrays, shape) for arrays in packed]
    timed = watch.open(packed_layers(form, weights, packed, shape), library=True)
    how = f"{form}{'' if block == (1, 1) else ' {}x{}'.format(*block)} {weights}"
    stored = float(np.mean([product.stored for product in products]))
    return [
        Checked(
            name, shape, how, stored, count,
            float(np.mean([calibration.packed(product, count) for product in products])),
            timed.seconds(_input(count, shape, random)) / len(packed), len(packed),
        )
        for count in tokens
    ]  # fmt: skip


def _input(tokens: int, shape: tuple[int, int], random: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": random.standard_normal((1, tokens, shape[1]), np.float32)}
