"""Masks of models that Aerogel did not prune: a weight that is exactly zero is pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.checkpoint import Record

if TYPE_CHECKING:
    from aerogel.export.source import Subject
    from aerogel.export.torch_reference import TorchReference
    from aerogel.hf.sentence_transformers import Modules

__all__ = ["block_of", "embedding_details", "foreign_subject"]

# Blocks that pruning tools use, the largest first.
_BLOCKS = (
    (32, 32),
    (16, 16),
    (8, 8),
    (4, 4),
    (1, 16),
    (16, 1),
    (1, 8),
    (8, 1),
    (1, 4),
    (4, 1),
    (1, 2),
    (2, 1),
)
# Above this density zeros are accidents, and say nothing about blocks.
_PRUNED = 0.95


def foreign_subject(
    kind: str,
    path: Path,
    load: Callable[[], TorchReference],
    record: Record | None = None,
    details: dict[str, Any] | None = None,
) -> Subject:
    """The subject of a model without masks of its own.

    Args:
        kind: name of the source.
        path: its directory.
        load: loads it.
        record: how it was made, where that is known.
        details: what the manifest says of the source besides.
    """
    from aerogel.export.source import Subject
    from aerogel.hf.encoder import encoder_parameters, prunable

    load = cache(load)
    model = load().model
    weights = {name: layer.weight.detach().numpy() for name, layer in prunable(model).items()}
    masks = {name: weight != 0 for name, weight in weights.items()}
    made = record or Record("none", {}, block_of(masks), "local", encoder_parameters(model))
    return Subject(kind, path, made, masks, lambda names: _some(weights, names), load, details or {})


def embedding_details(modules: Modules) -> dict[str, Any]:
    """What the manifest says of an embedder's vectors."""
    return {
        "dimensions": modules.dimensions,
        "normalized": modules.normalize,
        "prompts": modules.prompts,
        "default_prompt": modules.default_prompt,
    }


def block_of(masks: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """The largest block (rows, cols) in which every pruned matrix was pruned; (1, 1) if no block fits."""
    pruned = [mask for mask in masks.values() if mask.mean() < _PRUNED]
    if not pruned:
        return (1, 1)
    return next(
        (block for block in _BLOCKS if all(_in_blocks(mask, block) for mask in masks.values())), (1, 1)
    )


def _in_blocks(mask: np.ndarray, block: tuple[int, int]) -> bool:
    """Whether a matrix divides into blocks and, if it is pruned, no block is kept in part."""
    (rows, cols), (r, c) = mask.shape, block
    if rows % r or cols % c:
        return False
    if mask.mean() >= _PRUNED:
        return True
    tiles = mask.reshape(rows // r, r, cols // c, c)
    return bool((tiles.any((1, 3)) == tiles.all((1, 3))).all())


def _some(weights: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    return {name: weights[name] for name in names}
