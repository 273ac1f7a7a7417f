"""The scores that made a checkpoint's masks: ``scores.safetensors`` in its directory, which `--save-scores` writes.

Per pruned weight, under the weight's own name, float16 ``[out / r, in / c]``: the learnt score of each block when
training ended. They are for looking at (`aerogel inspect`); nothing is computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aerogel.checkpoint import SCORES_FILE, Checkpoint
from aerogel.errors import CheckpointError, require

__all__ = ["load", "save"]


def save(folder: Path, scores: Mapping[str, np.ndarray]) -> None:
    """Write scores ``[out / r, in / c]`` into a checkpoint's directory; float16's largest number is the largest score.

    Raises:
        safetensors.SafetensorError: they cannot be written.
    """
    largest = float(np.finfo(np.float16).max)
    halves = {name: np.clip(score, -largest, largest).astype(np.float16) for name, score in scores.items()}
    require("safetensors.numpy", "train").save_file(halves, str(folder / SCORES_FILE))


def load(made: Checkpoint) -> dict[str, np.ndarray] | None:
    """Scores by weight name, float32 ``[out / r, in / c]``; None where the checkpoint has none.

    Raises:
        CheckpointError: they are damaged, or not of this checkpoint's masks.
    """
    file = made.path / SCORES_FILE
    if not file.is_file():
        return None
    safetensors, mend = require("safetensors", "inspect"), "restore it or train anew"
    rows, cols = made.record.block
    try:
        with safetensors.safe_open(str(file), framework="numpy") as stored:
            if odd := sorted(set(stored.keys()) ^ set(made.masks)):
                raise CheckpointError(f"{file}: {odd[0]} has a mask or scores, not both; {mend}")
            scores = {}
            for name, mask in made.masks.items():
                found, wanted = stored.get_slice(name), [mask.shape[0] // rows, mask.shape[1] // cols]
                if found.get_dtype() != "F16" or found.get_shape() != wanted:
                    raise CheckpointError(
                        f"{file}: {name} is {found.get_dtype()} {found.get_shape()}, not F16 {wanted}; {mend}"
                    )
                scores[name] = stored.get_tensor(name).astype(np.float32)
                if not np.isfinite(scores[name]).all():
                    raise CheckpointError(f"{file}: {name} has values that are not finite; {mend}")
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); {mend}") from error
    return scores
