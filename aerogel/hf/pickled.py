"""Models with pickled weights, pytorch_model.bin: load them without running code from the pickle."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from aerogel.errors import CheckpointError, require

__all__ = ["pickled_files", "weight_options"]

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_FILE, _INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def weight_options(name: str | Path) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that select the weights of a model; safetensors are preferred.

    Args:
        name: directory or hub id. From the hub, only safetensors are read.

    Raises:
        CheckpointError: a file of pickled weights is missing, damaged or has other objects than tensors; names the
            file.
    """
    files = pickled_files(name)
    for file in files:
        _check_tensors(file)
    # transformers reads these files with weights_only as well.
    return {"use_safetensors": not files, "weights_only": True}


def pickled_files(name: str | Path) -> list[Path]:
    """Files of pickled weights of a model; empty if it has safetensors or is a hub id.

    Raises:
        CheckpointError: the index of the files is damaged or names a missing file.
    """
    folder = Path(name)
    if any((folder / file).is_file() for file in _SAFE):
        return []
    if (folder / _FILE).is_file():
        return [folder / _FILE]
    index = folder / _INDEX
    if not index.is_file():
        return []
    try:
        parts = set(json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values())
        if not parts or any(Path(part).name != part for part in parts):
            raise ValueError("weight_map must name files of the same folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{index} is not an index of weights ({type(error).__name__}: {error}); download it again"
        ) from error
    files = [folder / part for part in sorted(parts)]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing, but {_INDEX} lists it; download it again")
    return files


def _check_tensors(file: Path) -> None:
    """Check that a file is a dict of tensors by name."""
    torch = require("torch", "train")
    try:
        # Files written by torch before 1.6 are not zip archives and cannot be mapped.
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # damaged files raise many exception types
        raise CheckpointError(
            f"{file} cannot be read as tensors alone ({_reason(error)}); save the model as model.safetensors"
        ) from error
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items()
    ):
        raise CheckpointError(
            f"{file} is not a table of tensors by name; save the model's state_dict as model.safetensors"
        )


def _reason(error: Exception) -> str:
    """The line of torch's message with the cause, without its advice to allow more types."""
    lines = str(error).strip().split("\n")
    line = next((line for line in lines if "unsupported" in line.lower()), lines[0])
    line = (
        line.rpartition("WeightsUnpickler error: ")[2].partition(". Please")[0].partition(". In PyTorch")[0]
    )
    return line.strip(" .")[:200] or type(error).__name__
