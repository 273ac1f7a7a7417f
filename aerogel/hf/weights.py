"""The tensors of a directory, read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.errors import CheckpointError, require
from aerogel.hf.reason import reason

if TYPE_CHECKING:
    import torch

__all__ = ["merged_pruning", "read_tensors"]

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


def merged_pruning(folder: Path) -> dict[str, torch.Tensor] | None:
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
