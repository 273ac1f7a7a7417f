"""Which matrices are stored packed, and why the others stay dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerogel.checkpoint import WEIGHTS_FILE, Checkpoint
from aerogel.errors import UsageError, require
from aerogel.export.functions import carrier
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS
from aerogel.sparse.masks import check_block

__all__ = ["DENSE", "Choice", "make_plan", "read_weights"]

DENSE = "dense"


@dataclass(frozen=True)
class Choice:
    """How one pruned matrix is stored.

    Attributes:
        name: the weight's name in the checkpoint.
        weight: float32 ``[out, in]``, zeros where pruned.
        kept: entries that the mask keeps.
        format: storage format, or "dense".
        why: the reason, in words.
        arrays: the packed arrays; empty when dense.
        stored: entries that the format would store, zeros inside blocks included.
    """

    name: str
    weight: np.ndarray
    kept: int
    format: str
    why: str
    arrays: Arrays
    stored: int

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def density(self) -> float:
        """Fraction of entries kept."""
        return self.kept / self.weight.size

    @property
    def bytes(self) -> int:
        """Bytes of the matrix as it is stored."""
        return sum(array.nbytes for array in self.arrays.values()) if self.arrays else self.weight.nbytes


def make_plan(
    checkpoint: Checkpoint,
    format_name: str,
    block: tuple[int, int] | None = None,
    max_density: float | None = None,
) -> dict[str, Choice]:
    """Choose a storage for every pruned matrix of a checkpoint.

    Args:
        checkpoint: where the masks and weights are.
        format_name: a storage format that ONNX can carry, or "dense" for none.
        block: (rows, cols) of the blocks to store; the checkpoint's own if None.
        max_density: matrices whose stored entries exceed this fraction stay dense; the format's break-even if None.

    Raises:
        UsageError: unknown format, a density out of range, or a block that does not divide a matrix.
        ExportError: a format that ONNX cannot carry.
    """
    if block and (format_name == DENSE or not FORMATS.get(format_name).blocked):
        raise UsageError(f"--block does not apply to --format {format_name}, which has no blocks")
    weights = read_weights(checkpoint.path, list(checkpoint.masks))
    if format_name == DENSE:
        return {
            name: Choice(name, weights[name], int(mask.sum()), DENSE, "asked for", {}, mask.size)
            for name, mask in checkpoint.masks.items()
        }
    function = carrier(format_name)
    encoder = FORMATS.get(format_name)
    block = block or checkpoint.record.block
    limit = function.max_density(block) if max_density is None else max_density
    if not 0.0 <= limit <= 1.0:
        raise UsageError(f"--max-density {limit} is out of range; give a value from 0 to 1")
    if encoder.blocked:
        for name, mask in checkpoint.masks.items():
            check_block(mask.shape, block, name)
    plan = {}
    for name, mask in checkpoint.masks.items():
        arrays = encoder.encode(weights[name], mask, block)
        stored, kept = arrays["data"].size, int(mask.sum())
        share = stored / mask.size
        packed = share <= limit
        why = f"{'at most' if packed else 'more than'} {limit:.0%} stored"
        plan[name] = Choice(
            name, weights[name], kept, format_name if packed else DENSE, why, arrays if packed else {}, stored
        )
    return plan


def read_weights(path: Path, names: list[str]) -> Mapping[str, np.ndarray]:
    """Weights of a checkpoint directory by name, as float32."""
    safetensors = require("safetensors", "export")
    with safetensors.safe_open(str(path / WEIGHTS_FILE), framework="numpy") as file:
        return {name: file.get_tensor(name).astype(np.float32, copy=False) for name in names}
