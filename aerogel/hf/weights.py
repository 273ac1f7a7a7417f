"""The tensors of a directory, read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerogel.checkpoint.bitmask import FORMAT, PARTS, decode_bitmask
from aerogel.errors import CheckpointError, FormatError, require
from aerogel.hf.reason import reason
from aerogel.system.json_fields import Either, MalformedJsonError, read

if TYPE_CHECKING:
    import torch

__all__ = ["plain_weights", "read_tensors"]

_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
# What torch.nn.utils.prune appends to the name of a parameter.
_ORIGINAL, _MASK = "_orig", "_mask"


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of model.safetensors in `folder`, or of pytorch_model.bin where that is the only file.

    Raises:
        CheckpointError: neither file is there, or it is damaged or contains more than tensors.
    """
    torch = require("torch", "export")
    file = folder / _SAFE if (folder / _SAFE).is_file() else folder / _PICKLED
    try:
        if file.name == _SAFE:
            found = require("safetensors.torch", "export").load_file(str(file))
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise types of their own
        raise CheckpointError(f"cannot read {file} ({reason(error)}); restore it") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise CheckpointError(f"{file} contains more than tensors; save it as {_SAFE}")
    return found


def plain_weights(folder: Path) -> dict[str, torch.Tensor] | None:
    """The dense tensors of a model that is stored in a form that transformers does not load by itself.

    That is with ``torch.nn.utils.prune`` in place, or in the layout ``sparse-bitmask`` of compressed-tensors.

    Returns:
        None for other models.

    Raises:
        CheckpointError: a tensor is missing or malformed, or the model is in another layout of compressed-tensors;
            names it.
    """
    layout = _compressed_layout(folder)
    if layout is None:
        return _merged_pruning(folder)
    if layout != FORMAT:
        raise CheckpointError(
            f"{folder / 'config.json'}: its weights are in the layout {layout!r} of compressed-tensors; known is "
            f"{FORMAT}; save the model with plain weights"
        )
    return _unpacked_bitmasks(folder)


def _compressed_layout(folder: Path) -> str | None:
    """The layout of compressed-tensors that config.json names; None where it names none, or plain weights."""
    try:
        document = read(folder / "config.json", {"quantization_config?": Either(dict, None)})
    except (OSError, MalformedJsonError):
        return None  # transformers says what is wrong
    found = document.get("quantization_config") or {}
    if found.get("quant_method") != "compressed-tensors":
        return None
    sparsity = found.get("sparsity_config")
    if found.get("config_groups"):
        return str(found.get("format"))
    name = sparsity.get("format") if isinstance(sparsity, dict) else None
    return None if name in (None, "dense") else str(name)


def _unpacked_bitmasks(folder: Path) -> dict[str, torch.Tensor]:
    torch = require("torch", "export")
    tensors = read_tensors(folder)
    suffix = ".bitmask"
    for module in [name.removesuffix(suffix) for name in tensors if name.endswith(suffix)]:
        parts = {part: tensors.pop(f"{module}.{part}") for part in PARTS if f"{module}.{part}" in tensors}
        # numpy has no bfloat16, so the values stay a tensor and only their number is checked.
        values = parts.get("compressed")
        arrays = {part: value.numpy() for part, value in parts.items() if part != "compressed"}
        if values is not None:
            arrays["compressed"] = np.empty(values.shape, np.uint8)
        try:
            mask, _ = decode_bitmask(arrays)
        except FormatError as error:
            raise CheckpointError(f"{folder / _SAFE}: {module}: {error}; save the model again") from error
        dense = torch.zeros(mask.shape, dtype=parts["compressed"].dtype)
        dense[torch.from_numpy(mask)] = parts["compressed"]
        tensors[f"{module}.weight"] = dense
    return tensors


def _merged_pruning(folder: Path) -> dict[str, torch.Tensor] | None:
    """The tensors of a model that was saved with ``torch.nn.utils.prune`` in place, each weight times its mask.

    Returns:
        None for other models.

    Raises:
        CheckpointError: a mask is missing or of another shape; names it.
    """
    file = folder / _SAFE
    if file.is_file():
        with require("safetensors", "export").safe_open(str(file), framework="pt") as opened:
            names = list(opened.keys())
        if not any(name.endswith(_ORIGINAL) for name in names):
            return None
    elif not (folder / _PICKLED).is_file():
        return None
    tensors = read_tensors(folder)
    originals = [name for name in tensors if name.endswith(_ORIGINAL)]
    if not originals:
        return None
    for name in originals:
        plain = name.removesuffix(_ORIGINAL)
        mask = tensors.pop(plain + _MASK, None)
        value = tensors.pop(name)
        if mask is None or mask.shape != value.shape:
            raise CheckpointError(
                f"{folder}: {plain}{_MASK} is missing or does not fit {name}; save the model again"
            )
        tensors[plain] = value * mask
    return tensors
