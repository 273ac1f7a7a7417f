"""Masks: boolean arrays of a weight's shape ``[out_features, in_features]``, True where a weight is kept.

`top_mask` is the one place in which scores become masks. It takes numpy arrays and torch tensors alike (torch is not
imported here: the few array operations in use have the same names in both), so that training on a GPU never copies
scores to the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aerogel.errors import FormatError, UsageError

__all__ = [
    "block_scores",
    "check_block",
    "expand_blocks",
    "kept_count",
    "pack",
    "ranked",
    "top_mask",
    "top_masks",
    "unpack",
]

# Values drawn to bracket a rank, and how far the brackets are from it: four times what the draw's luck moves it by.
_SAMPLE = 4096
_MARGIN = 128


def check_block(shape: tuple[int, ...], block: tuple[int, int], name: str = "weight") -> None:
    """Raise UsageError unless `block` (rows, cols) tiles a matrix of `shape` exactly."""
    rows, cols = block
    if rows < 1 or cols < 1:
        raise UsageError(f"block {rows}x{cols}: both sides must be at least 1")
    if len(shape) != 2 or shape[0] % rows or shape[1] % cols:
        fits = "x".join(map(str, shape))
        raise UsageError(
            f"block {rows}x{cols} does not divide {name} of shape {fits}; choose sides that divide it"
        )


def kept_count(density: float, size: int) -> int:
    """How many of `size` entries a `density` keeps: round half up, at least one.

    Raises:
        UsageError: density is not in (0, 1].
    """
    if not 0.0 < density <= 1.0:
        raise UsageError(f"density {density}: must be above 0 and at most 1")
    return max(1, int(density * size + 0.5))


def block_scores(scores: Any, block: tuple[int, int]) -> Any:
    """Sum scores ``[out, in]`` over r x c blocks, giving ``[out / r, in / c]``."""
    rows, cols = block
    if block == (1, 1):
        return scores
    out, inner = scores.shape
    return scores.reshape(out // rows, rows, inner // cols, cols).sum(3).sum(1)


def expand_blocks(mask: Any, block: tuple[int, int]) -> Any:
    """Repeat a block mask ``[out / r, in / c]`` to element resolution ``[out, in]``."""
    rows, cols = block
    if block == (1, 1):
        return mask
    r, c = mask.shape
    if isinstance(mask, np.ndarray):
        return np.repeat(np.repeat(mask, rows, 0), cols, 1)
    return mask[:, None, :, None].expand(r, rows, c, cols).reshape(r * rows, c * cols)


def top_mask(scores: Any, keep: int) -> Any:
    """Mask of the `keep` highest scores, of the same shape and kind as `scores`.

    The count is exact. Among equal scores the earlier in row-major order is kept, so the result does not depend on
    the library, the device or the thread count. NaN scores are refused: they have no order.
    """
    flat = scores.reshape(-1)
    size = flat.shape[0]
    if not 0 <= keep <= size:
        raise UsageError(f"cannot keep {keep} of {size} scores")
    if bool((flat != flat).any()):
        raise UsageError("scores contain NaN")
    if keep == 0:
        return (flat != flat).reshape(scores.shape)
    if keep == size:
        return (flat == flat).reshape(scores.shape)
    threshold = ranked(flat, size - keep)
    mask = flat > threshold
    ties = flat == threshold
    missing = keep - int(mask.sum())
    if int(ties.sum()) == missing:
        mask |= ties
    else:
        mask |= ties & (ties.cumsum(0) <= missing)
    return mask.reshape(scores.shape)


def ranked(values: Any, place: int) -> Any:
    """The value at `place` if `values` ``[n]``, none of them NaN, were sorted; that of a tensor on a GPU stays there.

    A sample says between which two values it will be, so that few have to be partitioned. For 1536 x 384 float32 on a
    CPU: 1.2 ms, numpy's partition of all 3.8, torch's kthvalue 20.
    """
    if not isinstance(values, np.ndarray):
        if values.device.type != "cpu":
            return values.kthvalue(place + 1).values
        values = _as_numpy(values)
    if values.size > 16 * _SAMPLE and values.dtype.kind == "f":
        sample = np.sort(values[:: values.size // _SAMPLE])
        middle = place * sample.size // values.size
        low = sample[middle - _MARGIN] if middle >= _MARGIN else sample.dtype.type(-np.inf)
        high = sample[middle + _MARGIN] if middle + _MARGIN < sample.size else sample.dtype.type(np.inf)
        before = np.count_nonzero(values < low)
        between = values[(values >= low) & (values <= high)]
        if before <= place < before + between.size:
            values, place = between, place - before
    return np.partition(values, place)[place].item()


def top_masks(
    scores: Mapping[str, Any], density: float, block: tuple[int, int] = (1, 1), scope: str = "local"
) -> dict[str, Any]:
    """Masks for several matrices at a common density.

    Args:
        scores: per matrix name, scores ``[out, in]``; a block's score is the sum of the scores inside it.
        density: fraction kept, in (0, 1].
        block: (rows, cols) that are kept or dropped together.
        scope: "local" keeps `density` of every matrix; "global" ranks all blocks of all matrices together.

    Returns:
        Per matrix name, a boolean mask of the scores' shape.

    Raises:
        UsageError: density out of range, unknown scope, or a block that does not divide a matrix.
    """
    for name, value in scores.items():
        check_block(tuple(value.shape), block, name)
    blocks = {name: block_scores(value, block) for name, value in scores.items()}
    if scope == "local":
        kept = {
            name: top_mask(value, kept_count(density, value.shape[0] * value.shape[1]))
            for name, value in blocks.items()
        }
    elif scope == "global":
        kept = _global(blocks, density)
    else:
        raise UsageError(f"unknown scope {scope!r}; known: local, global")
    return {name: expand_blocks(mask, block) for name, mask in kept.items()}


def pack(mask: np.ndarray) -> np.ndarray:
    """Pack a mask into bytes, row-major, lowest bit first; the last byte is padded with zero bits."""
    return np.packbits(np.ascontiguousarray(mask).reshape(-1), bitorder="little")


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `pack`.

    Raises:
        FormatError: wrong dtype, wrong length for `shape`, or padding bits that are not zero.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if packed.dtype != np.uint8 or packed.shape != ((size + 7) // 8,):
        raise FormatError(
            f"packed mask is {packed.dtype}{list(packed.shape)}, "
            f"expected uint8[{(size + 7) // 8}] for shape {list(shape)}"
        )
    bits = np.unpackbits(packed, bitorder="little")
    if bits[size:].any():
        raise FormatError("packed mask has bits set past its end")
    return bits[:size].astype(bool).reshape(shape)


def _as_numpy(flat: Any) -> np.ndarray:
    """View a CPU tensor as an array; half types, which numpy lacks or is slow with, exactly as float32."""
    half = flat.dtype.itemsize < 4 and flat.dtype.is_floating_point
    array: np.ndarray = (flat.detach().float() if half else flat.detach()).numpy()
    return array


def _global(blocks: Mapping[str, Any], density: float) -> dict[str, Any]:
    """Rank the blocks of all matrices together; `top_mask` on their concatenation, then cut it up again."""
    flats = [value.reshape(-1) for value in blocks.values()]
    if not flats:
        return {}
    if isinstance(flats[0], np.ndarray):
        joined = np.concatenate(flats)
    else:
        joined = flats[0].new_empty(sum(flat.shape[0] for flat in flats))
        start = 0
        for flat in flats:
            joined[start : start + flat.shape[0]] = flat
            start += flat.shape[0]
    mask = top_mask(joined, kept_count(density, joined.shape[0]))
    result, start = {}, 0
    for name, value in blocks.items():
        size = value.shape[0] * value.shape[1]
        result[name] = mask[start : start + size].reshape(value.shape)
        start += size
    return result
