"""A mask found before, kept to the bit: what follows pre-training with `rpp` or `nip` (Guo et al. 2019, section 3.3).

    W' = W * M,  dL/dW = dL/dW' * M,  M as the checkpoint has it

One mask, found while pre-training, serves every task that is fine-tuned afterwards. The weights need not be those of
the checkpoint: with those of another model of the same shape this is the lottery-ticket experiment.
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

__all__ = ["METHOD", "Frozen"]


@dataclass(frozen=True)
class Options:
    """Options of `Frozen`.

    Attributes:
        mask: checkpoint directory whose masks are taken.
    """

    mask: str = ""

    def __post_init__(self) -> None:
        if not self.mask:
            raise UsageError(
                "--method frozen has no mask; give --option mask=CKPT, or --freeze-mask for that of --model"
            )


class Frozen(FixedMask):
    """Train the weights that a checkpoint's masks keep. Density, block and scope are those of the checkpoint.

    Raises:
        UsageError: a density, block or scope is asked for, or the checkpoint has no masks or those of another model.
        CheckpointError: it is damaged or none.
    """

    Options = Options
    prunes = False

    def __init__(
        self, matrices: Mapping[str, nn.Linear], target: SparsityConfig, options: Any = None
    ) -> None:
        options = options or Options()
        if target != SparsityConfig(density=1.0):
            raise UsageError(
                "a frozen mask has its own density, block and scope; drop --density, --block and --scope"
            )
        found = checkpoint.load(Path(options.mask))
        if not found.masks:
            raise UsageError(f"{found.path} has no masks to freeze; give a checkpoint of a run that pruned")
        kept = _fitting(found, matrices)
        record = found.record
        own = SparsityConfig(found.accounting.density, record.block, record.scope)
        super().__init__({name: matrices[name] for name in kept}, own, kept, options)

    @classmethod
    def reads(cls, options: Any) -> dict[str, Path]:
        """The masks."""
        return {"mask": Path(options.mask) / checkpoint.MASKS_FILE}


def _fitting(found: Checkpoint, matrices: Mapping[str, nn.Linear]) -> dict[str, np.ndarray]:
    """The checkpoint's masks by the names of the model's matrices."""
    kept = {}
    for name, mask in found.masks.items():
        place = _place(name, matrices)
        if place is None:
            raise UsageError(
                f"{found.path} has a mask for {name}, and the model no such matrix; give a mask of this model"
            )
        shape = tuple(matrices[place].weight.shape)
        if mask.shape != shape:
            raise UsageError(
                f"{found.path}: the mask of {name} is {'x'.join(map(str, mask.shape))}, and the matrix "
                f"{'x'.join(map(str, shape))}; give a mask of this model"
            )
        kept[place] = mask
    return kept


def _place(name: str, matrices: Mapping[str, nn.Linear]) -> str | None:
    """The matrix called `name`; a model without a head lacks the first part of the name."""
    if name in matrices:
        return name
    longer = [other for other in matrices if other.endswith(f".{name}") or name.endswith(f".{other}")]
    return longer[0] if len(longer) == 1 else None


METHOD = Frozen
