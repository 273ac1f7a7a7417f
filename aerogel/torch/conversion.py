"""Changing the linear layers of a whole model, in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel.errors import CheckpointError, UsageError
from aerogel.torch import meta_init
from aerogel.torch.backend import Backend, Cpu
from aerogel.torch.format_selection import StorageFormat
from aerogel.torch.layer import SparseLayer
from aerogel.torch.linears import check_movable, check_plain, check_readable, current, find, move_hooks
from aerogel.torch.loader import Matrix, Stored, open_stored
from aerogel.torch.shrink import check_shrinkable
from aerogel.torch.shrink import shrink as remove_dead

__all__ = ["densify", "replace", "sparsify", "swap_live"]

Masks = Mapping[str, "np.ndarray | torch.Tensor"]
"""Boolean ``[out, in]`` by the name of the weight in the model, True where a weight is kept."""


def sparsify(
    model: nn.Module | str | Path,
    format: str | None = None,
    block: tuple[int, int] | None = None,
    max_density: float | None = None,
    *,
    masks: Masks | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    shrink: bool = False,
    tokens: int = 4096,
) -> Any:
    """Swap the pruned ``nn.Linear`` layers of a model for sparse ones where that is faster.

    Args:
        model: a checkpoint directory of Aerogel or an .onnx file that it exported, which are opened with transformers,
            or a live model, which is changed in place.
        format: "csr", "bsr", or "auto" for what suits each matrix best; on a GPU "packed" and "2:4" too. "csr" if None,
            on a GPU "auto".
        block: (rows, cols) of the blocks to store; the checkpoint's own if None, for a live model 4x1, on a GPU 32x32.
        max_density: a matrix that would store more than this share of its entries stays dense; the break-even of its
            format if None: on the CPU as in export, on a GPU by what was measured there.
        masks: for a live model: what is kept, by weight name (``encoder.layer.0.intermediate.dense.weight``); weights
            outside count as zero, and layers without a mask are left alone. If None, exact zeros count as pruned.
        device: where the model shall run; where a live model is if None, for one on disk the CPU.
        dtype: float type of the weights, torch.float16 for example; as they are if None, on disk float32.
        shrink: remove heads and neurons that are wholly pruned first; see `aerogel.torch.shrink`. Models on disk are
            then dense in memory for a while.
        tokens: on a GPU, rows that a layer will be given at a time, by which the kernel is chosen.

    Returns:
        The model, in evaluation mode if it was opened here. `aerogel.torch.report` tells what became of it.

    Weights under `torch.nn.utils.prune` count as the product of the parameter and its mask, and their pruning becomes
    permanent. Hooks on inputs, outputs and gradients move to the new layer.

    Raises:
        UsageError: unknown format, a density out of range, masks that do not fit, a block that does not divide a
            matrix, a device that is not there, or a layer whose weight a hook, a parametrization or an adapter computes
            or that has state which the new layer would lose.
        CheckpointError: the directory is not a sound checkpoint, or not of a model that transformers can open.
        RuntimeLoadError: the file is not an export with its manifest, or there is no native library. In all these cases
            nothing has been changed.
    """
    if max_density is not None and not 0.0 <= max_density <= 1.0:
        raise UsageError(f"max_density {max_density} is out of range; give a value from 0 to 1")
    if isinstance(model, nn.Module):
        place = _device(device, model)
        linears = find(model)
        check_readable(model, linears if masks is None else {n: linears[n] for n in masks if n in linears})
        values = dtype or next((linear.weight.dtype for linear in linears.values()), torch.float32)
        backend = _backend(place, format, block, None, max_density, values, tokens)
        kept = _zeros(linears) if masks is None else _checked(masks, linears)
        return swap_live(model, kept, backend, dtype, shrink)
    if masks is not None:
        raise UsageError("masks are for a live model; a checkpoint has its own")
    stored = open_stored(Path(model))
    values = dtype or torch.float32
    backend = _backend(_device(device, None), format, block, stored.block, max_density, values, tokens)
    if not shrink:
        return _swap_stored(stored, backend, values)
    opened, masks = _open_dense(stored, backend.device)
    return swap_live(opened, masks, backend, values, shrink)


def densify(model: nn.Module) -> Any:
    """Swap every sparse layer of a model, in place, for the ``nn.Linear`` that computes the same.

    Returns:
        The model. Its weights can be trained.

    Raises:
        UsageError: a layer has hooks that cannot move; nothing has been changed.
        FormatError: the arrays of a layer break the rules of their format; nothing has been changed.
    """
    sparse = [module for module in model.modules() if isinstance(module, SparseLayer)]
    return replace(model, {id(module): module.to_linear() for module in sparse})


def _backend(
    device: torch.device,
    format: str | None,
    block: tuple[int, int] | None,
    own_block: tuple[int, int] | None,
    max_density: float | None,
    dtype: torch.dtype,
    tokens: int,
) -> Backend:
    if device.type == "cpu":
        return Cpu(format or "csr", block, own_block, max_density)
    from aerogel.torch.cuda.backend import Gpu

    backend: Backend = Gpu(device, format or "auto", block, own_block, max_density, dtype, tokens)
    return backend


def _device(asked: torch.device | str | None, model: nn.Module | None) -> torch.device:
    if asked is None:
        first = None if model is None else next(model.parameters(), None)
        return torch.device("cpu") if first is None else first.device
    try:
        return torch.device(asked)
    except RuntimeError as error:
        raise UsageError(f"device {asked!r} is unknown to PyTorch; give 'cpu' or 'cuda'") from error


def swap_live(
    model: nn.Module, kept: dict[str, np.ndarray], backend: Backend, dtype: torch.dtype | None, shrink: bool
) -> nn.Module:
    """Swap the layers of a live model whose masks are given; see `sparsify`.

    Raises:
        UsageError: a layer cannot be swapped; nothing has been changed.
    """
    linears = find(model)
    chosen = {name: backend.choose(name, mask) for name, mask in kept.items()}
    for name, way in chosen.items():
        if way is not None:
            check_movable(name.removesuffix("weight").removesuffix("."), linears[name])
    if shrink:
        for name in kept:
            check_plain(name, linears[name])
        check_shrinkable(model)
        with torch.no_grad():
            for name, mask in kept.items():
                linears[name].weight.mul_(torch.from_numpy(mask).to(linears[name].weight.device))
        remove_dead(model, backend.multiple)
        kept = _zeros({name: linears[name] for name in kept})
        chosen = {name: backend.choose(name, mask) for name, mask in kept.items()}
    made = {}
    for name, way in chosen.items():
        if way is not None:
            linear = linears[name]
            weight = _weight(name, linear)
            matrix = Matrix(weight.float().cpu().numpy(), kept[name])
            made[id(linear)] = _layer(backend, name, way, matrix, linear, dtype or weight.dtype)
    return replace(model, made).to(device=backend.device, dtype=dtype)


def _swap_stored(stored: Stored, backend: Backend, dtype: torch.dtype) -> nn.Module:
    """Open a model with its matrices packed one by one."""
    model = meta_init.build(stored.folder)
    meta_init.fill(model, stored.tensors(), backend.device, dtype, stored.path)
    linears = find(model)
    for name in stored.matrices:
        linear, matrix = _pruned(linears, name, stored)
        way = backend.choose(name, matrix.mask)
        if way is None:
            meta_init.fill(
                model, [(name, torch.from_numpy(matrix.weight))], backend.device, dtype, stored.path
            )
        else:
            model = replace(model, {id(linear): _layer(backend, name, way, matrix, linear, dtype)})
    meta_init.complete(model, backend.device, dtype, stored.path)
    return model


def _open_dense(stored: Stored, device: torch.device) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """The whole model dense, and its masks."""
    model = meta_init.build(stored.folder)
    meta_init.fill(model, stored.tensors(), device, torch.float32, stored.path)
    linears, kept = find(model), {}
    for name in stored.matrices:
        _, matrix = _pruned(linears, name, stored)
        kept[name] = matrix.mask
        meta_init.fill(model, [(name, torch.from_numpy(matrix.weight))], device, torch.float32, stored.path)
    meta_init.complete(model, device, torch.float32, stored.path)
    return model, kept


def _pruned(linears: Mapping[str, nn.Linear], name: str, stored: Stored) -> tuple[nn.Linear, Matrix]:
    """A pruned matrix and the layer that it belongs to."""
    if name not in linears:
        raise CheckpointError(
            f"{stored.path}: {name} is pruned and not the weight of an nn.Linear of the model"
        )
    shape = stored.shape(name)
    if shape != linears[name].weight.shape:
        raise CheckpointError(
            f"{stored.path}: {name} is {list(shape)} and config.json makes it "
            f"{list(linears[name].weight.shape)}; restore config.json and the weights"
        )
    return linears[name], stored.matrix(name)


def _layer(
    backend: Backend, name: str, way: StorageFormat, matrix: Matrix, linear: nn.Linear, dtype: torch.dtype
) -> nn.Module:
    bias = current(name, linear, "bias")
    if bias is not None:
        bias = bias.to(backend.device, dtype, copy=True)
    return backend.layer(name, way, matrix, bias, dtype).train(linear.training)


def _weight(name: str, linear: nn.Linear) -> torch.Tensor:
    weight = current(name, linear)
    assert weight is not None  # an nn.Linear has no other
    return weight


def _zeros(linears: Mapping[str, nn.Linear]) -> dict[str, np.ndarray]:
    return {name: (_weight(name, linear) != 0).cpu().numpy() for name, linear in linears.items()}


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


def replace(model: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """Swap modules, given by their identity, for others, which get their hooks; the model itself may be one.

    Raises:
        UsageError: something of a module would be lost; nothing has been changed.
    """
    old = {name: module for name, module in model.named_modules() if id(module) in new}
    for name, module in old.items():
        check_movable(name, module)
    for module in old.values():
        move_hooks(module, new[id(module)])
    for parent in list(model.modules()):
        # Not named_children, which gives a module that has two names once.
        for name, child in list(parent._modules.items()):
            if id(child) in new:
                setattr(parent, name, new[id(child)])
    return new.get(id(model), model)
