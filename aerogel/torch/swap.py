"""Changing the linear layers of a whole model, in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel import checkpoint as checkpoints
from aerogel.errors import UsageError, require
from aerogel.torch.choice import best, candidates
from aerogel.torch.linear import SparseLinear
from aerogel.torch.packed import check_library

__all__ = ["densify", "sparsify"]

Masks = Mapping[str, "np.ndarray | torch.Tensor"]
"""Boolean ``[out, in]`` by the name of the weight in the model, True where a weight is kept."""


def sparsify(
    model: nn.Module | str | Path,
    format: str = "csr",
    block: tuple[int, int] | None = None,
    max_density: float | None = None,
    *,
    masks: Masks | None = None,
) -> Any:
    """Swap the pruned ``nn.Linear`` layers of a model for `SparseLinear` where that is faster.

    Args:
        model: a checkpoint directory of Aerogel, which is opened with transformers, or a live model, which is changed
            in place.
        format: "csr", "bsr", or "auto" for what suits each matrix best.
        block: (rows, cols) of the blocks to store; the checkpoint's own if None, for a live model 4x1.
        max_density: a matrix that would store more than this share of its entries stays dense; the break-even of its
            format if None, as in export.
        masks: for a live model: what is kept, by weight name (``encoder.layer.0.intermediate.dense.weight``); weights
            outside count as zero, and layers without a mask are left alone. If None, exact zeros count as pruned.

    Returns:
        The model, in evaluation mode if it was opened here. `aerogel.torch.report` tells what became of it.

    Raises:
        UsageError: unknown format, a density out of range, masks that do not fit, or a block that does not divide a
            matrix.
        CheckpointError: the directory is not a sound checkpoint, or not of a model that transformers can open.
        RuntimeLoadError: there is no native library. In all these cases nothing has been changed.
    """
    if max_density is not None and not 0.0 <= max_density <= 1.0:
        raise UsageError(f"max_density {max_density} is out of range; give a value from 0 to 1")
    check_library()
    if isinstance(model, nn.Module):
        ways = candidates(format, block)
    else:
        if masks is not None:
            raise UsageError("masks are for a live model; a checkpoint has its own")
        checkpoint = checkpoints.load(Path(model))
        ways = candidates(format, block, checkpoint.record.block)
        masks, model = checkpoint.masks, _open(checkpoint)
    linears = _linears(model)
    kept = _zeros(linears) if masks is None else _checked(masks, linears)
    chosen = {name: best(name, mask, ways, max_density) for name, mask in kept.items()}
    made = {
        name: SparseLinear.from_linear(linears[name], kept[name], way.format, way.block)
        for name, way in chosen.items()
        if way is not None
    }
    return _replace(model, {id(linears[name]): new for name, new in made.items()})


def densify(model: nn.Module) -> Any:
    """Swap every `SparseLinear` of a model, in place, for the ``nn.Linear`` that computes the same.

    Returns:
        The model. Its weights can be trained, and saved with ``save_pretrained``.

    Raises:
        FormatError: the arrays of a layer break the rules of their format; nothing has been changed.
    """
    sparse = [module for module in model.modules() if isinstance(module, SparseLinear)]
    return _replace(model, {id(module): module.to_linear() for module in sparse})


def _open(checkpoint: checkpoints.Checkpoint) -> nn.Module:
    """The checkpoint's model, with the attention that transformers finds best."""
    require("transformers", "export")
    from aerogel.export.source import load_model
    from aerogel.quiet import quiet

    with quiet():
        return load_model(checkpoint.path, attention=None)


def _linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The dense layers by the name of their weight; one that the model has in several places, by each.

    Subclasses are left out: what uses them may know them by more than their product, as attention of torch.nn does.
    """
    return {
        f"{name}.weight" if name else "weight": module
        for name, module in model.named_modules(remove_duplicate=False)
        if type(module) is nn.Linear
    }


def _zeros(linears: Mapping[str, nn.Linear]) -> dict[str, np.ndarray]:
    return {name: (linear.weight.detach() != 0).cpu().numpy() for name, linear in linears.items()}


def _checked(masks: Masks, linears: Mapping[str, nn.Linear]) -> dict[str, np.ndarray]:
    checked = {}
    for name, value in masks.items():
        if name not in linears:
            raise UsageError(
                f"masks: {name} is not the weight of an nn.Linear of the model; give its full name"
            )
        mask = np.asarray(torch.as_tensor(value).cpu())
        if mask.dtype != np.bool_ or mask.shape != linears[name].weight.shape:
            raise UsageError(
                f"masks: {name} must be bool {list(linears[name].weight.shape)}, not {mask.dtype}{list(mask.shape)}"
            )
        checked[name] = mask
    return checked


def _replace(model: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """Put modules in the places of others, given by their identity; the model itself may be one."""
    for parent in list(model.modules()):
        # Not named_children, which gives a module that stands in two places once.
        for name, child in list(parent._modules.items()):
            if id(child) in new:
                setattr(parent, name, new[id(child)])
    return new.get(id(model), model)
