"""`--format compact`: heads and neurons that are wholly pruned are removed, and the rest is plain dense ONNX.

`aerogel.hf.shrink` decides what is removed and folds constant effects into biases. The result is compared with the
original model, as every artifact is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aerogel.errors import ExportError, UsageError
from aerogel.export.plan import DENSE, FP32, StoragePlan

if TYPE_CHECKING:
    from aerogel.export.config import ExportConfig
    from aerogel.export.reference_model import ReferenceModel
    from aerogel.export.source import Subject
    from aerogel.hf.shrink import ShrinkReport

__all__ = ["COMPACT", "Compacted", "compact"]

COMPACT = "compact"


@dataclass(frozen=True)
class Compacted:
    """A model without its wholly pruned heads and neurons.

    Attributes:
        model: computes what the original does, up to rounding.
        plan: the matrices of the smaller model, all dense, by name.
        removed: what was removed.
    """

    model: ReferenceModel
    plan: dict[str, StoragePlan]
    removed: ShrinkReport


def compact(config: ExportConfig, subject: Subject) -> Compacted:
    """Remove the wholly pruned heads and neurons of a copy of a model.

    Raises:
        UsageError: an option that does not apply to this format, or a model with nothing to remove.
        ExportError: a model whose heads and neurons are not known.
    """
    flags: dict[str, object] = {"--block": config.block, "--max-density": config.max_density}
    if config.weights != FP32:
        flags["--weights"] = config.weights
    given = next((flag for flag, value in flags.items() if value is not None), None)
    if given:
        raise UsageError(f"{given} does not apply to --format compact, which packs nothing; drop it")
    model, removed = subject.load().compacted()
    if not removed.all_heads + removed.all_neurons:
        raise ExportError(
            f"--format compact: the attention and feed-forward layers of {model.name} are not of a kind that can be "
            "cut (BERT, RoBERTa, ELECTRA, DistilBERT); use another format"
        )
    if not removed.heads + removed.neurons:
        raise UsageError(
            f"--format compact: no head or neuron of {subject.path} is wholly pruned; use --format auto"
        )
    weights = model.parameters()
    plan = {}
    for name, mask in subject.masks.items():
        weight = weights[name]
        cut = weight.shape != mask.shape
        reason = f"cut from {mask.shape[0]}x{mask.shape[1]}" if cut else "nothing to remove"
        plan[name] = StoragePlan(name, weight, int(np.count_nonzero(weight)), DENSE, reason, {}, weight.size)
    return Compacted(model, plan, removed)
