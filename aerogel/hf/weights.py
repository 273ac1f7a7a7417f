"""The tensors of a directory, read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.errors import CheckpointError, require

if TYPE_CHECKING:
    import torch

__all__ = ["read_tensors"]

_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"


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
        raise CheckpointError(
            f"cannot read {file} ({str(error).splitlines()[0][:200]}); restore it"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise CheckpointError(f"{file} contains more than tensors; save it as {_SAFE}")
    return found
