"""The layout ``sparse-bitmask`` of the compressed-tensors package: a bit for each weight, and the weights not zero.

The matrix of module NAME, ``NAME.weight`` ``[rows, cols]``, is stored as

* ``NAME.shape``: int64 ``[2]``,
* ``NAME.bitmask``: uint8 ``[rows, ceil(cols / 8)]``, lowest bit first, 1 where a weight is not zero,
* ``NAME.compressed``: these weights in row-major order,
* ``NAME.row_offsets``: int64 ``[rows]``, where each row starts in ``compressed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aerogel.errors import CheckpointError, FormatError, require

__all__ = ["FORMAT", "PARTS", "decode_bitmask", "decode_bitmask_tensors", "encode_bitmask"]

FORMAT = "sparse-bitmask"
"""Name of the layout in config.json."""

PARTS = ("shape", "bitmask", "compressed", "row_offsets")
"""Last parts of the names of a matrix's tensors."""

_MAX_SIDE = 1 << 24


def encode_bitmask(weight: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors of a matrix ``[rows, cols]`` by the last part of their names."""
    mask = weight != 0
    counts = np.count_nonzero(mask, axis=1)
    return {
        "shape": np.array(weight.shape, np.int64),
        "bitmask": np.packbits(mask, axis=1, bitorder="little"),
        "compressed": weight[mask],
        "row_offsets": np.cumsum(counts, dtype=np.int64) - counts,
    }


def decode_bitmask(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mask, boolean ``[rows, cols]``, and the values of a matrix, which has them where the mask is True.

    Args:
        arrays: ``shape``, ``bitmask``, ``row_offsets``, and ``compressed`` of any dtype.

    Raises:
        FormatError: a tensor is missing, or breaks the rules of the layout.
    """
    if missing := next((part for part in PARTS if part not in arrays), None):
        raise FormatError(f"{missing} is missing")
    shape, bits, values, offsets = (arrays[part] for part in PARTS)
    if shape.dtype != np.int64 or shape.shape != (2,) or not ((shape > 0) & (shape <= _MAX_SIDE)).all():
        raise FormatError(f"shape must be two numbers from 1 to {_MAX_SIDE}, as int64")
    rows, cols = map(int, shape)
    width = -(-cols // 8)
    if bits.dtype != np.uint8 or bits.shape != (rows, width):
        raise FormatError(f"bitmask must be uint8[{rows}, {width}], not {bits.dtype}{list(bits.shape)}")
    unpacked = np.unpackbits(bits, axis=1, bitorder="little")
    if unpacked[:, cols:].any():
        raise FormatError("bitmask has padding bits that are set")
    mask = unpacked[:, :cols].astype(bool)
    counts = np.count_nonzero(mask, axis=1)
    if values.shape != (int(counts.sum()),):
        raise FormatError(f"compressed must have {counts.sum()} values, not the shape {list(values.shape)}")
    if offsets.dtype != np.int64 or not np.array_equal(offsets, np.cumsum(counts) - counts):
        raise FormatError("row_offsets are not those of the bitmask")
    return mask, values


def decode_bitmask_tensors(path: Path) -> dict[str, np.ndarray]:
    """All parameters of a .safetensors file, dense, by name; those in this layout and the others.

    Raises:
        CheckpointError: the file is damaged, or a tensor breaks the rules of the layout; names the tensor.
    """
    safetensors = require("safetensors", "export")
    try:
        with safetensors.safe_open(str(path), framework="numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); write the checkpoint again") from error
    for module in [name.removesuffix(".bitmask") for name in tensors if name.endswith(".bitmask")]:
        names = {part: f"{module}.{part}" for part in PARTS}
        arrays = {part: tensors.pop(name) for part, name in names.items() if name in tensors}
        try:
            mask, values = decode_bitmask(arrays)
        except FormatError as error:
            raise CheckpointError(f"{path}: {module}: {error}; write the checkpoint again") from error
        dense = np.zeros(mask.shape, values.dtype)
        dense[mask] = values
        tensors[f"{module}.weight"] = dense
    return tensors
