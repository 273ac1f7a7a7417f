"""Fine-tuning with the masks of a checkpoint, as after pre-training with `rpp` or `nip` (Guo et al. 2019, section 3.3).

    W' = W * M,  dL/dW = dL/dW' * M,  M read from the checkpoint

One mask, found in pre-training, serves every task that is fine-tuned later. The weights may come from another model of
the same shape, which is the lottery-ticket experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from aerogel import checkpoint
from aerogel.checkpoint import Checkpoint
from aerogel.errors import UsageError
from aerogel.train.fixed_mask import FixedMask
from aerogel.train.method import SparsityConfig

__all__ = ["METHOD", "Frozen", "FrozenOptions"]


@dataclass(frozen=True)
class FrozenOptions:
    """Options of `Frozen`.

    Attributes:
        mask: checkpoint directory with the masks.
    """

    mask: str = ""

    def __post_init__(self) -> None:
        if not self.mask:
            raise UsageError(
                "method frozen needs a mask; give option mask=CKPT, or freeze_mask to keep the masks of model"
            )


class Frozen(FixedMask):
    """Train the weights that the masks of a checkpoint keep, with the density, block and scope of that checkpoint.

    Raises:
        UsageError: a density, block or scope is set, or the checkpoint has no masks or masks of another model.
        CheckpointError: the checkpoint is damaged, or the directory is not a checkpoint.
    """

    Options = FrozenOptions
    prunes = False

    def __init__(
        self, matrices: Mapping[str, nn.Linear], sparsity: SparsityConfig, options: Any = None
    ) -> None:
        options = options or FrozenOptions()
        if sparsity != SparsityConfig(density=1.0):
            raise UsageError(
                "a frozen mask has its own density, block and scope; drop density, block and scope"
            )
        found = checkpoint.load(Path(options.mask))
        if not found.masks:
            raise UsageError(f"{found.path} has no masks; give a checkpoint of a run that pruned")
        masks = _matching_masks(found, matrices)
        record = found.record
        own = SparsityConfig(found.accounting.density, record.block, record.scope)
        super().__init__({name: matrices[name] for name in masks}, own, masks, options)

    @classmethod
    def files_read(cls, options: Any) -> dict[str, Path]:
        """The file with the masks."""
        return {"mask": Path(options.mask) / checkpoint.MASKS_FILE}


def _matching_masks(found: Checkpoint, matrices: Mapping[str, nn.Linear]) -> dict[str, np.ndarray]:
    """Masks of the checkpoint, by name of the model's matrix."""
    masks = {}
    for name, mask in found.masks.items():
        matrix = _matching_name(name, matrices)
        if matrix is None:
            raise UsageError(
                f"{found.path} has a mask for {name}, which the model lacks; give a checkpoint of the same model"
            )
        shape = tuple(matrices[matrix].weight.shape)
        if mask.shape != shape:
            raise UsageError(
                f"{found.path}: the mask of {name} has shape {'x'.join(map(str, mask.shape))}, the matrix has shape "
                f"{'x'.join(map(str, shape))}; give a checkpoint of the same model"
            )
        masks[matrix] = mask
    return masks


def _matching_name(name: str, matrices: Mapping[str, nn.Linear]) -> str | None:
    """Name of the matrix that the mask `name` belongs to. In a model without a head, the first component is missing."""
    if name in matrices:
        return name
    candidates = [other for other in matrices if other.endswith(f".{name}") or name.endswith(f".{other}")]
    return candidates[0] if len(candidates) == 1 else None


METHOD = Frozen
