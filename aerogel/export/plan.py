"""Which matrices are stored packed, and why the others stay dense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from aerogel.checkpoint import WEIGHTS_FILE, Record, not_finite
from aerogel.cost.model import CostModel
from aerogel.cost.packed_shape import PackedShape, packed_shape_of
from aerogel.cost.predict import WORKLOAD
from aerogel.errors import UsageError, require
from aerogel.ops.format_selection import StorageFormat
from aerogel.ops.functions import op_for
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.sparse.blocks import common_block
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS
from aerogel.sparse.masks import check_block

__all__ = ["AUTO", "DENSE", "FP32", "Masked", "StoragePlan", "make_plan", "read_weights"]

AUTO = "auto"
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
        """The weight after storing: float32 ``[out, in]``, computed without the packed arrays."""
        kind = VALUE_TYPES.get(self.weights)
        return kind.decode(*kind.encode(self.weight, self.name))


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
    format_name: str = AUTO,
    block: tuple[int, int] | None = None,
    max_density: float | None = None,
    weights: str = FP32,
    calibration: CostModel | None = None,
    read: Callable[[list[str]], Mapping[str, np.ndarray]] | None = None,
) -> dict[str, StoragePlan]:
    """Choose a storage for every pruned matrix of a checkpoint.

    Args:
        checkpoint: where the masks and weights are.
        format_name: a storage format that ONNX can carry, "auto" for the fastest of csr and bsr, or "dense" for none.
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
    if block and format_name != AUTO and (format_name == DENSE or not FORMATS.get(format_name).blocked):
        raise UsageError(f"--block does not apply to --format {format_name}, which has no blocks")
    VALUE_TYPES.get(weights)
    if weights != FP32 and format_name == DENSE:
        raise UsageError(f"--weights {weights} does not apply to --format dense, which packs nothing")
    if weights != FP32 and not checkpoint.masks:
        raise UsageError(
            f"--weights {weights}: {checkpoint.path} has no pruned matrices to store so; drop it"
        )
    if max_density is not None and not 0.0 <= max_density <= 1.0:
        raise UsageError(f"--max-density {max_density} is out of range; give a value from 0 to 1")
    masks = checkpoint.masks
    if format_name == DENSE:
        formats = {}
    elif format_name == AUTO:
        formats = {
            name: _candidates(name, mask, block, checkpoint.record.block, weights)
            for name, mask in masks.items()
        }
    else:
        own = (block or checkpoint.record.block) if FORMATS.get(format_name).blocked else (1, 1)
        storage = StorageFormat(format_name, own, weights)
        formats = {name: [_fitting(storage, mask, name)] for name, mask in masks.items()}
    matrices = read(list(masks)) if read else read_weights(checkpoint.path, list(masks))
    plan = {}
    for name, mask in masks.items():
        if format_name == DENSE:
            plan[name] = StoragePlan(name, matrices[name], int(mask.sum()), DENSE, "asked for", {}, mask.size)
        elif max_density is None and mask.all():
            plan[name] = _unpruned(name, matrices[name], weights, calibrated=calibration is not None)
        else:
            plan[name] = _pruned(name, matrices[name], mask, formats[name], max_density, calibration)
    return plan


def _fitting(storage: StorageFormat, mask: np.ndarray, name: str) -> StorageFormat:
    """`storage`, if matrix `name` can be stored so.

    Raises:
        UsageError: its block does not divide the matrix.
        ExportError: its function does not exist, or takes no matrix so large.
    """
    op_for(storage.format, storage.weights).check_shape(mask.shape, name)
    check_block(mask.shape, storage.block, name)
    return storage


def _candidates(
    name: str,
    mask: np.ndarray,
    block: tuple[int, int] | None,
    own_block: tuple[int, int],
    weights: str,
) -> list[StorageFormat]:
    """The formats to choose from for a matrix: csr, and bsr in the blocks that it was pruned in.

    bsr comes first, because of two formats that are equally fast it takes less memory.

    Raises:
        UsageError: `block`, which the user gave, does not divide the matrix.
        ExportError: the matrix is too large for all of them.
    """
    entries = StorageFormat("csr", (1, 1), weights)
    if block:
        return [_fitting(StorageFormat("bsr", block, weights), mask, name), entries]
    found = []
    for r, c in {own_block: None, common_block([mask]): None}:
        if (r, c) != (1, 1) and mask.shape[0] % r == mask.shape[1] % c == 0:
            found.append(StorageFormat("bsr", (r, c), weights))
    if found and mask.size > op_for("csr", weights).max_elements:
        return [_fitting(storage, mask, name) for storage in found]
    return [*found, _fitting(entries, mask, name)]


def _pruned(
    name: str,
    weight: np.ndarray,
    mask: np.ndarray,
    formats: Sequence[StorageFormat],
    max_density: float | None,
    calibration: CostModel | None,
) -> StoragePlan:
    """The storage of a pruned matrix: of the formats that pay the fastest; if none does, dense or whole."""
    kind, weights = VALUE_TYPES.get(formats[0].weights), formats[0].weights
    values, beside = kind.encode(weight, name)
    tokens = WORKLOAD.batch * WORKLOAD.sequence
    ranked = []
    for order, storage in enumerate(formats):
        encoder = FORMATS.get(storage.format)
        arrays = encoder.encode(values, mask, storage.block)
        product = (
            packed_shape_of(encoder.for_kernels(arrays, mask.shape), mask.shape) if calibration else None
        )
        limit = storage.break_even if max_density is None else max_density
        fraction = arrays["data"].size / mask.size
        # Without a calibration, time is proportional to the stored entries and equals the dense time at break-even.
        time = fraction / storage.break_even
        if calibration and product:
            time = calibration.packed_seconds(product, tokens)
            limit = calibration.break_even(product, tokens) if max_density is None else max_density
        ranked.append((fraction > limit, time, order, limit, arrays, product))
    too_dense, _, best, limit, arrays, product = min(ranked, key=lambda choice: choice[:3])
    others = [str(storage) for order, storage in enumerate(formats) if order != best]
    reason = f"{'more than' if too_dense else 'at most'} {limit:.0%} stored"
    stored, kept = arrays["data"].size, int(mask.sum())
    if not too_dense:
        if others:
            reason += f"; not slower than {' and '.join(others)}"
        return StoragePlan(
            name, weight, kept, formats[best].format, reason, arrays | beside, stored, weights, product
        )
    if kind.dense:
        return StoragePlan(name, weight, kept, DENSE, reason, {}, stored, product=product)
    arrays = _whole(values) | beside
    product = packed_shape_of(arrays, mask.shape) if calibration else None
    return StoragePlan(name, weight, kept, "bsr", reason, arrays, mask.size, weights, product)


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
