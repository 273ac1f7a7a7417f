"""Which matrices are stored packed, and why the others stay dense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from aerogel.checkpoint import WEIGHTS_FILE, Record, not_finite
from aerogel.cost.model import CostModel
from aerogel.cost.packed_shape import PackedShape, packed_shape_of
from aerogel.cost.predict import WORKLOAD
from aerogel.errors import UsageError, require
from aerogel.ops.functions import op_for
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS
from aerogel.sparse.masks import check_block

__all__ = ["DENSE", "FP32", "Masked", "StoragePlan", "default_format", "make_plan", "read_weights"]

DENSE = "dense"
FP32 = "fp32"

# Blocks that a matrix is stored in when all of it is: the first that divides it.
_WHOLE = ((16, 16), (4, 4), (1, 1))


@dataclass(frozen=True)
class StoragePlan:
    """How one pruned matrix is stored.

    Attributes:
        name: the weight's name in the checkpoint.
        weight: float32 ``[out, in]``, zeros where pruned.
        kept: entries that the mask keeps.
        format: storage format, or "dense".
        reason: reason, in words.
        arrays: the packed arrays; empty when dense.
        stored: entries that the format would store, zeros inside blocks included.
        weights: type of the stored values.
        product: what the time of its product depends on, packed; None without a calibration to use it.
    """

    name: str
    weight: np.ndarray
    kept: int
    format: str
    reason: str
    arrays: Arrays
    stored: int
    weights: str = FP32
    product: PackedShape | None = None

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

    def rounded(self) -> np.ndarray:
        """What the weight is once it is stored: float32 ``[out, in]``, made without the arrays that shall give it."""
        kind = VALUE_TYPES.get(self.weights)
        return kind.decode(*kind.encode(self.weight, self.name))


def default_format(checkpoint: Masked, block: tuple[int, int] | None = None) -> str:
    """The format to use where none is asked for: blocks where there are any, of `block` or of the checkpoint."""
    return "csr" if (block or checkpoint.record.block) == (1, 1) else "bsr"


class Masked(Protocol):
    """What a plan is made for: a checkpoint, or another model to export."""

    @property
    def path(self) -> Path:
        """Its directory."""

    @property
    def record(self) -> Record:
        """How it was made."""

    @property
    def masks(self) -> Mapping[str, np.ndarray]:
        """Boolean ``[out, in]`` by weight name."""


def make_plan(
    checkpoint: Masked,
    format_name: str,
    block: tuple[int, int] | None = None,
    max_density: float | None = None,
    weights: str = FP32,
    calibration: CostModel | None = None,
    read: Callable[[list[str]], Mapping[str, np.ndarray]] | None = None,
) -> dict[str, StoragePlan]:
    """Choose a storage for every pruned matrix of a checkpoint.

    Args:
        checkpoint: where the masks and weights are.
        format_name: a storage format that ONNX can carry, or "dense" for none.
        block: (rows, cols) of the blocks to store; the checkpoint's own if None.
        max_density: matrices whose stored entries exceed this fraction stay dense, or, where the weight type has no
            dense form, are stored whole; the break-even if None.
        weights: type of the stored values.
        read: reads the weights of the matrices named; None reads the checkpoint.
        calibration: what knows each matrix's break-even on this machine; without it, the function's holds for all.

    Raises:
        UsageError: unknown format or weight type, a density out of range, a block that does not divide a matrix, or
            another type than fp32 where nothing would be packed.
        CheckpointError: a weight is NaN or infinite.
        ExportError: a format that ONNX cannot carry, a matrix too large for it, or values that the weight type cannot
            store.
    """
    if block and (format_name == DENSE or not FORMATS.get(format_name).blocked):
        raise UsageError(f"--block does not apply to --format {format_name}, which has no blocks")
    kind = VALUE_TYPES.get(weights)
    if weights != FP32 and format_name == DENSE:
        raise UsageError(f"--weights {weights} does not apply to --format dense, which packs nothing")
    if weights != FP32 and not checkpoint.masks:
        raise UsageError(
            f"--weights {weights}: {checkpoint.path} has no pruned matrices to store so; drop it"
        )
    names = list(checkpoint.masks)
    matrices = read(names) if read else read_weights(checkpoint.path, names)
    if format_name == DENSE:
        return {
            name: StoragePlan(name, matrices[name], int(mask.sum()), DENSE, "asked for", {}, mask.size)
            for name, mask in checkpoint.masks.items()
        }
    function = op_for(format_name, weights)
    encoder = FORMATS.get(format_name)
    block = block or checkpoint.record.block
    limit = function.max_density(block) if max_density is None else max_density
    if not 0.0 <= limit <= 1.0:
        raise UsageError(f"--max-density {limit} is out of range; give a value from 0 to 1")
    for name, mask in checkpoint.masks.items():
        function.check_shape(mask.shape, name)
    if encoder.blocked:
        for name, mask in checkpoint.masks.items():
            check_block(mask.shape, block, name)
    plan = {}
    for name, mask in checkpoint.masks.items():
        if max_density is None and mask.all():
            plan[name] = _unpruned(name, matrices[name], weights, calibrated=calibration is not None)
            continue
        values, beside = kind.encode(matrices[name], name)
        arrays = encoder.encode(values, mask, block)
        stored, kept = arrays["data"].size, int(mask.sum())
        product = packed_shape_of(arrays, mask.shape) if calibration else None
        if calibration and product and max_density is None:
            limit = calibration.break_even(product, WORKLOAD.batch * WORKLOAD.sequence)
        pays = stored / mask.size <= limit
        reason = f"{'at most' if pays else 'more than'} {limit:.0%} stored"
        if pays:
            plan[name] = StoragePlan(
                name, matrices[name], kept, format_name, reason, arrays | beside, stored, weights, product
            )
        elif kind.dense:
            plan[name] = StoragePlan(name, matrices[name], kept, DENSE, reason, {}, stored, product=product)
        else:
            arrays = _whole(values) | beside
            product = packed_shape_of(arrays, mask.shape) if calibration else None
            plan[name] = StoragePlan(
                name, matrices[name], kept, "bsr", reason, arrays, mask.size, weights, product
            )
    return plan


def _unpruned(name: str, matrix: np.ndarray, weights: str, *, calibrated: bool) -> StoragePlan:
    """A matrix with no zeros: dense, or all of its blocks where the value type has no dense form."""
    kind, reason = VALUE_TYPES.get(weights), "not pruned"
    if kind.dense:
        return StoragePlan(name, matrix, matrix.size, DENSE, reason, {}, matrix.size)
    values, beside = kind.encode(matrix, name)
    arrays = _whole(values) | beside
    product = packed_shape_of(arrays, (matrix.shape[0], matrix.shape[1])) if calibrated else None
    return StoragePlan(name, matrix, matrix.size, "bsr", reason, arrays, matrix.size, weights, product)


def _whole(values: np.ndarray) -> Arrays:
    """All of a matrix in blocks, none of them left out."""
    rows, cols = values.shape
    block = next((r, c) for r, c in _WHOLE if rows % r == 0 and cols % c == 0)
    return FORMATS.get("bsr").encode(values, np.ones_like(values, bool), block)


def read_weights(path: Path, names: list[str]) -> Mapping[str, np.ndarray]:
    """Weights of a checkpoint directory by name, as float32.

    Raises:
        CheckpointError: one of them is NaN or infinite.
    """
    safetensors = require("safetensors", "export")
    with safetensors.safe_open(str(path / WEIGHTS_FILE), framework="numpy") as file:
        weights = {name: file.get_tensor(name).astype(np.float32, copy=False) for name in names}
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise not_finite(path, name)
    return weights
