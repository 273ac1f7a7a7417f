"""Compare predictions with measurements of matrices that were not used to calibrate."""

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

__all__ = ["Comparison", "ErrorSummary", "check", "summarize"]

Block = tuple[int, int]


@dataclass(frozen=True)
class _Case:
    """Packed matrices of one shape and storage, which are measured together."""

    name: str
    shape: tuple[int, int]
    block: Block
    weights: str
    packed: Sequence[Arrays]


# Name, (out, in), density of the blocks, block, value type. Rows and columns are uneven.
_SYNTHETIC: tuple[tuple[str, tuple[int, int], float, Block, str], ...] = (
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
# How the matrices of a checkpoint are stored: block and value type.
_STORAGES: tuple[tuple[Block, str], ...] = (((1, 1), "fp32"), ((1, 1), "int8"))
_DENSE = ((768, 768), (4096, 1024), (256, 1024))
_COPIES = 8


@dataclass(frozen=True)
class Comparison:
    """Predicted and measured time of one product; the mean if there are several matrices.

    Attributes:
        name: the model and the matrix's role in it.
        shape: (out, in).
        storage: "dense", or storage format, block and value type.
        stored_fraction: stored entries over all entries.
        tokens: rows of the activations.
        predicted: seconds.
        measured: seconds.
        count: number of matrices.
    """

    name: str
    shape: tuple[int, int]
    storage: str
    stored_fraction: float
    tokens: int
    predicted: float
    measured: float
    count: int

    @property
    def ratio(self) -> float:
        """Predicted over measured time."""
        return self.predicted / self.measured


@dataclass(frozen=True)
class ErrorSummary:
    """Errors of several predictions.

    Attributes:
        ratio: total predicted over total measured time.
        mean_error: mean of |ratio - 1|.
        within_15_percent: fraction of the predictions with |ratio - 1| <= 0.15.
    """

    ratio: float
    mean_error: float
    within_15_percent: float


def check(
    cost_model: CostModel,
    masks: Mapping[str, np.ndarray],
    tokens: Sequence[int] = (128,),
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Comparison]:
    """Measure matrices on this machine and compare with the cost model.

    Args:
        cost_model: the cost model to check.
        masks: masks of a checkpoint, boolean ``[out, in]`` by name; may be empty.
        tokens: numbers of tokens to measure at.
        progress: called with (stage, steps done, steps in total).
    """
    watch = Stopwatch(cost_model.machine.threads)
    random = np.random.default_rng(1)
    groups = _by_shape(masks)
    total = len(_DENSE) + len(_SYNTHETIC) + len(groups) * len(_STORAGES)
    found: list[Comparison] = []
    for number, shape in enumerate(_DENSE, 1):
        found += _compare_dense(cost_model, watch, shape, tokens, random)
        progress("check", number, total)
    for number, case in enumerate(_cases(groups, random), len(_DENSE) + 1):
        found += _compare_packed(cost_model, watch, case, tokens, random)
        progress("check", number, total)
    return found


def summarize(comparisons: Sequence[Comparison]) -> ErrorSummary:
    """Summarize the errors of several predictions."""
    ratios = np.array([c.ratio for c in comparisons])
    return ErrorSummary(
        sum(c.predicted * c.count for c in comparisons) / sum(c.measured * c.count for c in comparisons),
        float(np.abs(ratios - 1).mean()),
        float((np.abs(ratios - 1) <= 0.15).mean()),
    )


def _by_shape(masks: Mapping[str, np.ndarray]) -> dict[tuple[int, int], list[np.ndarray]]:
    """Group the masks of a checkpoint by shape."""
    groups: dict[tuple[int, int], list[np.ndarray]] = {}
    for mask in masks.values():
        groups.setdefault((mask.shape[0], mask.shape[1]), []).append(mask)
    return groups


def _cases(
    groups: Mapping[tuple[int, int], Sequence[np.ndarray]], random: np.random.Generator
) -> Iterator[_Case]:
    """The synthetic matrices, then those of the checkpoint; packed one case at a time to save memory."""
    for name, shape, density, block, weights in _SYNTHETIC:
        mask = random_mask(shape, density, block, random, skewed=True)
        yield _Case(name, shape, block, weights, pack(mask, block, weights, random, _COPIES))
    for shape, masks in groups.items():
        for block, weights in _STORAGES:
            packed = [pack(mask, block, weights, random)[0] for mask in masks]
            yield _Case(f"checkpoint, {len(masks)} matrices", shape, block, weights, packed)


def _compare_dense(
    cost_model: CostModel,
    watch: Stopwatch,
    shape: tuple[int, int],
    tokens: Sequence[int],
    random: np.random.Generator,
) -> list[Comparison]:
    timed = watch.load(dense_layers(_COPIES, shape, random), library=False)
    return [
        Comparison(
            "", shape, "dense", 1.0, count, cost_model.dense_seconds(shape, count),
            timed.seconds(_input(count, shape, random)) / _COPIES, 1,
        )
        for count in tokens
    ]  # fmt: skip


def _compare_packed(
    cost_model: CostModel,
    watch: Stopwatch,
    case: _Case,
    tokens: Sequence[int],
    random: np.random.Generator,
) -> list[Comparison]:
    format_name = format_of(case.block)
    shapes = [packed_shape_of(arrays, case.shape) for arrays in case.packed]
    timed = watch.load(packed_layers(format_name, case.weights, case.packed, case.shape), library=True)
    block = "" if case.block == (1, 1) else " {}x{}".format(*case.block)
    stored = float(np.mean([shape.stored_fraction for shape in shapes]))
    return [
        Comparison(
            case.name, case.shape, f"{format_name}{block} {case.weights}", stored, count,
            float(np.mean([cost_model.packed_seconds(shape, count) for shape in shapes])),
            timed.seconds(_input(count, case.shape, random)) / len(case.packed), len(case.packed),
        )
        for count in tokens
    ]  # fmt: skip


def _input(tokens: int, shape: tuple[int, int], random: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": random.standard_normal((1, tokens, shape[1]), np.float32)}
