"""The scores behind a checkpoint's masks, in ``scores.safetensors`` of its directory.

For each pruned weight, under its name, float16 ``[out / r, in / c]``: the learned score of each block at the end of
training. `aerogel inspect` shows them; no other command reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aerogel.checkpoint import SCORES_FILE, Checkpoint
from aerogel.errors import CheckpointError, require

__all__ = ["load", "save"]


def save(folder: Path, scores: Mapping[str, np.ndarray]) -> None:
    """Write scores ``[out / r, in / c]`` to a checkpoint directory, clipped to the range of float16.

    Raises:
        safetensors.SafetensorError: the file cannot be written.
    """
    largest = float(np.finfo(np.float16).max)
    clipped = {name: np.clip(score, -largest, largest).astype(np.float16) for name, score in scores.items()}
    require("safetensors.numpy", "train").save_file(clipped, str(folder / SCORES_FILE))


def load(loaded: Checkpoint) -> dict[str, np.ndarray] | None:
    """Read scores: float32 ``[out / r, in / c]`` by weight name; None if the checkpoint has none.

    Raises:
        CheckpointError: the file is damaged or does not match the masks.
    """
    file = loaded.path / SCORES_FILE
    if not file.is_file():
        return None
    safetensors, remedy = require("safetensors", "inspect"), "restore it or train again"
    rows, cols = loaded.record.block
    try:
        with safetensors.safe_open(str(file), framework="numpy") as stored:
            if odd := sorted(set(stored.keys()) ^ set(loaded.masks)):
                raise CheckpointError(f"{file}: {odd[0]} has only one of a mask and scores; {remedy}")
            scores = {}
            for name, mask in loaded.masks.items():
                found, expected = stored.get_slice(name), [mask.shape[0] // rows, mask.shape[1] // cols]
                if found.get_dtype() != "F16" or found.get_shape() != expected:
                    raise CheckpointError(
                        f"{file}: {name} is {found.get_dtype()} {found.get_shape()}, not F16 {expected}; {remedy}"
                    )
                scores[name] = stored.get_tensor(name).astype(np.float32)
                if not np.isfinite(scores[name]).all():
                    raise CheckpointError(f"{file}: {name} has values that are not finite; {remedy}")
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"cannot read {file} ({error}); {remedy}") from error
    return scores
