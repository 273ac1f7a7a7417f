"""Masks of models that Aerogel did not prune: a weight that is exactly zero is pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.checkpoint import Record
from aerogel.sparse.blocks import common_block

if TYPE_CHECKING:
    from aerogel.export.source import Subject
    from aerogel.export.torch_reference import TorchReference
    from aerogel.hf.sentence_transformers import Modules

__all__ = ["embedding_details", "foreign_subject"]


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
    made = record or Record("none", {}, common_block(masks.values()), "local", encoder_parameters(model))
    return Subject(kind, path, made, masks, lambda names: _some(weights, names), load, details or {})


def embedding_details(modules: Modules) -> dict[str, Any]:
    """What the manifest says of an embedder's vectors."""
    return {
        "dimensions": modules.dimensions,
        "normalized": modules.normalize,
        "prompts": modules.prompts,
        "default_prompt": modules.default_prompt,
    }


def _some(weights: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    return {name: weights[name] for name in names}
