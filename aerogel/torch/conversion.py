"""Replace the linear layers of a whole model, in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel.errors import CheckpointError, UsageError
from aerogel.ops.format_selection import StorageFormat
from aerogel.torch import meta_init
from aerogel.torch.backend import Backend, Cpu
from aerogel.torch.layer import SparseLayer
from aerogel.torch.linears import check_movable, check_plain, check_readable, current, find, move_hooks
from aerogel.torch.loader import Matrix, Stored, open_stored
from aerogel.torch.shrink import check_shrinkable
from aerogel.torch.shrink import shrink as remove_dead

__all__ = ["densify", "replace", "sparsify", "sparsify_live"]

Masks = Mapping[str, "np.ndarray | torch.Tensor"]
"""Boolean masks ``[out, in]`` by weight name; True means the weight is kept."""


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
    """Replace the pruned ``nn.Linear`` layers of a model by sparse layers where that is faster.

    Args:
        model: a checkpoint directory, an .onnx file exported by Aerogel, or a live model. Files are opened with
            transformers; a live model is changed in place.
        format: storage format: "csr", "bsr", or "auto" for the fastest of each matrix; on a GPU also "packed" and
            "2:4". Default: "csr" on the CPU, "auto" on a GPU.
        block: (rows, cols) of the stored blocks. Default: the block of the checkpoint; for a live model 4x1 on the CPU
            and 32x32 on a GPU.
        max_density: a matrix with a larger stored fraction stays dense. Default: the break-even of its format, on the
            CPU the same as in export, on a GPU from measurements.
        masks: masks of a live model by weight name (``encoder.layer.0.intermediate.dense.weight``). Pruned weights
            count as zero, and layers without a mask stay unchanged. Default: exact zeros are pruned.
        device: device to run on. Default: the device of a live model; the CPU for a model on disk.
        dtype: float type of the weights, such as torch.float16. Default: unchanged; float32 for a model on disk.
        shrink: first remove heads and neurons that are fully pruned; see `aerogel.torch.shrink`. A model on disk is
            then dense in memory for a while.
        tokens: rows per call of a layer, by which kernels are chosen on a GPU.

    Returns:
        The model; in evaluation mode if it was opened from disk. `aerogel.torch.report` describes its layers.

    Weights under `torch.nn.utils.prune` count as the product of the parameter and its mask, and their pruning becomes
    permanent. Hooks on inputs, outputs and gradients move to the new layer.

    Raises:
        UsageError: an unknown format, a density out of range, masks that do not fit, a block that does not divide a
            matrix, an unavailable device, a layer whose weight is computed by a hook, a parametrization or an adapter,
            or a layer with state that the new layer would lose.
        CheckpointError: the directory is not a valid checkpoint, or transformers cannot open its model.
        RuntimeLoadError: the file is not an export with its manifest, or there is no native library. After any of these
            errors the model is unchanged.
    """
    if max_density is not None and not 0.0 <= max_density <= 1.0:
        raise UsageError(f"max_density {max_density}: must be between 0 and 1")
    if isinstance(model, nn.Module):
        target = _device(device, model)
        linears = find(model)
        check_readable(model, linears if masks is None else {n: linears[n] for n in masks if n in linears})
        values = dtype or next((linear.weight.dtype for linear in linears.values()), torch.float32)
        backend = _backend(target, format, block, None, max_density, values, tokens)
        kept = _nonzero_masks(linears) if masks is None else _check_masks(masks, linears)
        return sparsify_live(model, kept, backend, dtype, shrink)
    if masks is not None:
        raise UsageError("masks: only for a live model; a checkpoint has its own masks")
    stored = open_stored(Path(model))
    values = dtype or torch.float32
    backend = _backend(_device(device, None), format, block, stored.block, max_density, values, tokens)
    if not shrink:
        return _sparsify_stored(stored, backend, values)
    opened, masks = _open_dense(stored, backend.device)
    return sparsify_live(opened, masks, backend, values, shrink)


def densify(model: nn.Module) -> Any:
    """Replace every sparse layer of a model, in place, by an equivalent ``nn.Linear``.

    Returns:
        The model. Its weights can be trained.

    Raises:
        UsageError: a layer has hooks that cannot move; the model is unchanged.
        FormatError: the arrays of a layer are malformed; the model is unchanged.
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


def _device(requested: torch.device | str | None, model: nn.Module | None) -> torch.device:
    if requested is None:
        first = None if model is None else next(model.parameters(), None)
        return torch.device("cpu") if first is None else first.device
    try:
        return torch.device(requested)
    except RuntimeError as error:
        raise UsageError(f"device {requested!r}: unknown to PyTorch; use 'cpu' or 'cuda'") from error


def sparsify_live(
    model: nn.Module, kept: dict[str, np.ndarray], backend: Backend, dtype: torch.dtype | None, shrink: bool
) -> nn.Module:
    """Replace the layers of a live model that have a mask in `kept`; see `sparsify`.

    Raises:
        UsageError: a layer cannot be replaced; the model is unchanged.
    """
    linears = find(model)
    chosen = {name: backend.choose(name, mask) for name, mask in kept.items()}
    for name, storage in chosen.items():
        if storage is not None:
            check_movable(name.removesuffix("weight").removesuffix("."), linears[name])
    if shrink:
        for name in kept:
            check_plain(name, linears[name])
        check_shrinkable(model)
        with torch.no_grad():
            for name, mask in kept.items():
                linears[name].weight.mul_(torch.from_numpy(mask).to(linears[name].weight.device))
        remove_dead(model, backend.multiple)
        kept = _nonzero_masks({name: linears[name] for name in kept})
        chosen = {name: backend.choose(name, mask) for name, mask in kept.items()}
    made = {}
    for name, storage in chosen.items():
        if storage is not None:
            linear = linears[name]
            weight = _weight(name, linear)
            matrix = Matrix(weight.float().cpu().numpy(), kept[name])
            made[id(linear)] = _layer(backend, name, storage, matrix, linear, dtype or weight.dtype)
    return replace(model, made).to(device=backend.device, dtype=dtype)


def _sparsify_stored(stored: Stored, backend: Backend, dtype: torch.dtype) -> nn.Module:
    """Open a model from disk and pack its matrices one by one."""
    model = meta_init.build(stored.folder)
    meta_init.load(model, stored.tensors(), backend.device, dtype, stored.path)
    linears = find(model)
    for name in stored.matrices:
        linear, matrix = _pruned(linears, name, stored)
        storage = backend.choose(name, matrix.mask)
        if storage is None:
            meta_init.load(
                model, [(name, torch.from_numpy(matrix.weight))], backend.device, dtype, stored.path
            )
        else:
            model = replace(model, {id(linear): _layer(backend, name, storage, matrix, linear, dtype)})
    meta_init.finish(model, backend.device, dtype, stored.path)
    return model


def _open_dense(stored: Stored, device: torch.device) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """Open a model from disk with dense weights; return it and its masks."""
    model = meta_init.build(stored.folder)
    meta_init.load(model, stored.tensors(), device, torch.float32, stored.path)
    linears, kept = find(model), {}
    for name in stored.matrices:
        _, matrix = _pruned(linears, name, stored)
        kept[name] = matrix.mask
        meta_init.load(model, [(name, torch.from_numpy(matrix.weight))], device, torch.float32, stored.path)
    meta_init.finish(model, device, torch.float32, stored.path)
    return model, kept


def _pruned(linears: Mapping[str, nn.Linear], name: str, stored: Stored) -> tuple[nn.Linear, Matrix]:
    """Return a pruned matrix and its layer."""
    if name not in linears:
        raise CheckpointError(
            f"{stored.path}: {name} is pruned but is not the weight of an nn.Linear; restore config.json"
        )
    shape = stored.shape(name)
    if shape != linears[name].weight.shape:
        raise CheckpointError(
            f"{stored.path}: {name} has shape {list(shape)}, config.json requires "
            f"{list(linears[name].weight.shape)}; restore config.json and the weights"
        )
    return linears[name], stored.matrix(name)


def _layer(
    backend: Backend, name: str, storage: StorageFormat, matrix: Matrix, linear: nn.Linear, dtype: torch.dtype
) -> nn.Module:
    bias = current(name, linear, "bias")
    if bias is not None:
        bias = bias.to(backend.device, dtype, copy=True)
    return backend.layer(name, storage, matrix, bias, dtype).train(linear.training)


def _weight(name: str, linear: nn.Linear) -> torch.Tensor:
    weight = current(name, linear)
    assert weight is not None  # an nn.Linear always has a weight
    return weight


def _nonzero_masks(linears: Mapping[str, nn.Linear]) -> dict[str, np.ndarray]:
    return {name: (_weight(name, linear) != 0).cpu().numpy() for name, linear in linears.items()}


def _check_masks(masks: Masks, linears: Mapping[str, nn.Linear]) -> dict[str, np.ndarray]:
    checked = {}
    for name, value in masks.items():
        if name not in linears:
            raise UsageError(
                f"masks: {name} is not the weight of an nn.Linear of the model; use its full name"
            )
        mask = np.asarray(torch.as_tensor(value).cpu())
        if mask.dtype != np.bool_ or mask.shape != linears[name].weight.shape:
            raise UsageError(
                f"masks: {name} must be bool {list(linears[name].weight.shape)}, not {mask.dtype}{list(mask.shape)}"
            )
        checked[name] = mask
    return checked


def replace(model: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """Replace modules of a model and move their hooks to the new ones.

    Args:
        model: the model; it may itself be replaced.
        new: new module by the ``id()`` of the old one.

    Returns:
        The model, or its replacement.

    Raises:
        UsageError: hooks or state of a module would be lost; the model is unchanged.
    """
    old = {name: module for name, module in model.named_modules() if id(module) in new}
    for name, module in old.items():
        check_movable(name, module)
    for module in old.values():
        move_hooks(module, new[id(module)])
    for parent in list(model.modules()):
        # named_children would list a module with two names only once.
        for name, child in list(parent._modules.items()):
            if id(child) in new:
                setattr(parent, name, new[id(child)])
    return new.get(id(model), model)
