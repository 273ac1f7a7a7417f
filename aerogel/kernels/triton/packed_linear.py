"""y = activation(x W^T + b) + residual with an unstructured W, loaded packed and multiplied as dense tiles.

    y[t, n] = sum over k of x[t, k] W[n, k]

W is split into tiles of 64 x 64, numbered along its rows:

    words     [tiles, 64, 2] int32     one bit per weight, lowest first: which of 32 columns of a row are kept
    starts    [tiles, 64, 2] uint16    number of the tile's entries before those of the word
    indptr    [tiles + 1] int32        start of the tile's entries in data
    data      [entries]                kept weights, row by row within the tile

The position of an entry in data is indptr[tile] + starts[word] + (number of set bits below its own in the word). A
weight takes 1/8 + 1/16 + 2 d bytes at density d in 16 bits: 0.39 at 10%, which is 19% of dense; 29% of dense at 20%,
14% at 5%. Pairs of a value and its position in the tile would take 4 d bytes: the same at 9%, more above. They would
also need a scatter on chip, which Triton cannot express: it can only gather. With the mask, each of 128 threads unpacks
one word of a tile, bit by bit, with one load per kept weight, and writes its 32 adjacent weights to shared memory 16
bytes at a time. Counting the bits below each weight instead (POPC) compiles to three times as many loads and stores: a
word, a start and a store per weight.

The dense tile goes to the tensor cores without being in global memory. At 10%, loading takes a fifth of the bytes of a
dense product. Unpacking takes about eight instructions per weight of the tile, kept or pruned, for any number of
tokens. If memory is slow relative to arithmetic, the saved bytes decide; on an H200, with 4.8 TB/s, unpacking may limit
the speed. For few tokens the alternative is `csr_linear`, whose work is proportional to the density.

Few tokens make few programs, so a row of tiles is split among several programs. `epilogue.finish` adds their float32
sums in a fixed order, so results are bit-identical from call to call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl

from aerogel.errors import UsageError
from aerogel.kernels.triton import epilogue, tuning
from aerogel.kernels.triton.launch import (
    DTYPES,
    Device,
    as_rows,
    device_of,
    dot,
    name_of,
    precision_of,
    widened,
)
from aerogel.sparse.formats.csr import FORMAT

__all__ = [
    "SIDE",
    "PackedWeight",
    "Tiles",
    "candidates",
    "choose_tiles",
    "packed_linear",
    "reference",
    "tune",
]

SIDE = 64
"""Rows and columns of a tile."""

_WORD = 32
# One thread per word of a tile.
_WARPS = SIDE * SIDE // _WORD // 32


@dataclass(frozen=True)
class PackedWeight:
    """A weight ``[out, in]`` in packed tiles. `from_csr` checks and packs, the constructor does not check.

    Attributes:
        data: ``[entries]``, float16, bfloat16 or float32: the kept weights.
        words: ``[tiles, 64, 2]`` int32: the mask, one bit per weight.
        starts: ``[tiles, 64, 2]`` uint16: number of the tile's entries before those of the word.
        indptr: ``[tiles + 1]`` int32: start of each tile's entries.
        out_features: rows of the matrix.
        in_features: columns of the matrix.
    """

    data: torch.Tensor
    words: torch.Tensor
    starts: torch.Tensor
    indptr: torch.Tensor
    out_features: int
    in_features: int

    @classmethod
    def from_csr(cls, arrays: Mapping[str, torch.Tensor], in_features: int) -> PackedWeight:
        """Check the arrays of `aerogel.sparse.formats.csr`, including every index, and pack them.

        Raises:
            FormatError: the arrays are malformed.
            UsageError: an unsupported dtype.
        """
        data, indices, indptr = (arrays[name].detach() for name in FORMAT.names)
        if data.dtype not in DTYPES:
            raise UsageError(
                f"data must be float16, bfloat16 or float32, not {name_of(data)}; convert it with .to()"
            )
        host = {"indices": indices.cpu().numpy(), "indptr": indptr.cpu().numpy()}
        # The check only reads the shape of the data, and numpy has no bfloat16.
        shape_only = np.broadcast_to(np.zeros((), np.float32), tuple(data.shape))
        out_features = len(host["indptr"]) - 1
        FORMAT.check({**host, "data": shape_only}, (out_features, in_features), full=True)
        row = np.repeat(np.arange(out_features), np.diff(host["indptr"]))
        column = host["indices"].astype(np.int64)
        across = -(-in_features // SIDE)
        tiles = -(-out_features // SIDE) * across
        # Rows of all tiles, numbered in storage order; columns already ascend.
        line = (row // SIDE * across + column // SIDE) * SIDE + row % SIDE
        positions = np.argsort(line, kind="stable")
        word = line * (SIDE // _WORD) + column % SIDE // _WORD
        size = tiles * SIDE * SIDE // _WORD
        # Sums of distinct powers of two below 2^32, exact in float64.
        words = np.bincount(word, weights=2.0 ** (column % _WORD), minlength=size).astype(np.uint32)
        before = np.zeros(size + 1, np.int64)
        np.cumsum(np.bincount(word, minlength=size), out=before[1:])
        begins = before[:: SIDE * SIDE // _WORD]
        starts = before[:-1].reshape(tiles, -1) - begins[:-1, None]
        shape = (tiles, SIDE, SIDE // _WORD)

        def moved(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(data.device)

        return cls(
            data[moved(positions)],
            moved(words.view(np.int32).reshape(shape)),
            moved(starts.astype(np.uint16).reshape(shape)),
            moved(begins.astype(np.int32)),
            out_features,
            in_features,
        )

    @property
    def nbytes(self) -> int:
        """Total bytes of the arrays."""
        return sum(a.numel() * a.element_size() for a in (self.data, self.words, self.starts, self.indptr))


@dataclass(frozen=True)
class Tiles:
    """How a product is split among programs.

    Attributes:
        tokens: tokens per program, a power of two from 16.
        splits: programs that share the columns of a row of tiles.
        stages: pipeline stages.
    """

    tokens: int
    splits: int = 1
    stages: int = 3


def choose_tiles(tokens: int, down: int, across: int, device: Device) -> Tiles:
    """Choose tiles for `tokens` tokens and a weight of `down` by `across` packed tiles."""
    tile = min(128, max(16, triton.next_power_of_2(tokens)))
    programs = max(1, down * triton.cdiv(tokens, tile))
    # Unpacking waits for dependent loads; four programs per processor, of at least two tiles each, hide the latency.
    splits = max(1, min(triton.cdiv(4 * device.processors, programs), across // 2, 32))
    return Tiles(tile, splits if programs < 2 * device.processors else 1)


def candidates(tokens: int, down: int, across: int, device: Device) -> list[Tiles]:
    """List the tiles to measure, those of `choose_tiles` first."""
    first = choose_tiles(tokens, down, across, device)
    splits = {s for s in (1, 2, 4, 8, 16, first.splits) if s <= across}
    rest = (Tiles(first.tokens, s, stages) for s in sorted(splits) for stages in (2, 3, 4))
    return [first, *(tiles for tiles in rest if tiles != first)]


def tune(x: torch.Tensor, weight: PackedWeight) -> Tiles:
    """Measure `candidates` for inputs like x on a GPU, and store the fastest for later calls; see `tuning`."""
    device, tokens = device_of(x, "packed_linear"), x.numel() // weight.in_features
    return tuning.tune(
        _case(tokens, weight),
        device,
        candidates(tokens, *_tiles_of(weight), device),
        lambda tiles: packed_linear(x, weight, tiles=tiles),
    )


def _tiles_of(weight: PackedWeight) -> tuple[int, int]:
    return triton.cdiv(weight.out_features, SIDE), triton.cdiv(weight.in_features, SIDE)


def _case(tokens: int, weight: PackedWeight) -> tuning.Case:
    shape = (weight.out_features, weight.in_features)
    density = len(weight.data) / max(1, shape[0] * shape[1])
    return tuning.Case("packed_linear", shape, (1, 1), tokens, density, name_of(weight.data))


def reference(
    x: torch.Tensor,
    weight: PackedWeight,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute `packed_linear` in plain PyTorch, word by word, in the dtype of `x`, also float64."""
    across = -(-weight.in_features // SIDE)
    y = x.new_zeros(*x.shape[:-1], weight.out_features)
    for tile, lines in enumerate(weight.words.tolist()):
        for r, line in enumerate(lines):
            for w, word in enumerate(line):
                at = int(weight.indptr[tile]) + int(weight.starts[tile, r, w])
                for bit in (bit for bit in range(_WORD) if word >> bit & 1):
                    n, k = tile // across * SIDE + r, tile % across * SIDE + w * _WORD + bit
                    y[..., n] += x[..., k] * weight.data[at].to(x.dtype)
                    at += 1
    return epilogue.reference(y, bias, activation, residual)


@triton.jit
def _expand(data, word, position):
    """Expand words ``[n, w]``, whose first entries are at `position` ``[n, w]``, to dense rows ``[n, 32 w]``.

    Each thread unpacks whole words, bit by bit, so that it loads its word and position only once.
    """
    values = ()
    for bit in tl.static_range(32):
        kept = (word >> bit) & 1
        values = values + (tl.load(data + position, mask=kept != 0, other=0.0),)  # noqa: RUF005 - Triton needs this
        position += kept
    # Join pairs, first those 16 columns apart, last adjacent ones: each axis is then one bit of the column number.
    for level in tl.static_range(5):
        joined = ()
        for i in tl.static_range(16 >> level):
            joined = joined + (tl.join(values[i], values[i + (16 >> level)]),)  # noqa: RUF005 - as above
        values = joined
    return tl.reshape(values[0], [word.shape[0], 32 * word.shape[1]])


@triton.jit
def _unpack(
    x,
    data,
    words,
    starts,
    indptr,
    bias,
    residual,
    y,
    tokens,
    columns,
    width,
    down,
    across,
    splits,
    x_stride,
    residual_stride,
    TOKENS: tl.constexpr,
    SIDE: tl.constexpr,
    SPLIT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Multiply one part of a row of tiles with one tile of tokens."""
    high = tl.program_id(0) % down
    rest = tl.program_id(0) // down
    split = rest % splits
    token = (rest // splits).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    r = tl.arange(0, SIDE)
    c = tl.arange(0, SIDE)
    in_tile = r[:, None] * (SIDE // 32) + tl.arange(0, SIDE // 32)[None, :]
    at_token = x + token[None, :] * x_stride
    value = tl.zeros([SIDE, TOKENS], tl.float32)
    for wide in range(across * split // splits, across * (split + 1) // splits):
        tile = (high * across + wide).to(tl.int64)
        word = tl.load(words + tile * (SIDE * SIDE // 32) + in_tile)
        start = tl.load(starts + tile * (SIDE * SIDE // 32) + in_tile).to(tl.int32)
        a = _expand(data, word, tl.load(indptr + tile) + start)
        k = wide * SIDE + c
        b = tl.load(at_token + k[:, None], mask=(k < width)[:, None] & (token < tokens)[None, :], other=0.0)
        value = dot(a, b, value, WIDEN, PRECISION)

    transposed = tl.trans(value)
    column = high.to(tl.int64) * SIDE + r
    inside = (token < tokens)[:, None] & (column < columns)[None, :]
    if SPLIT:
        token += split.to(tl.int64) * tokens
    else:
        transposed = epilogue.apply(
            transposed, bias, residual, residual_stride, token, column, tokens, columns, ACTIVATION
        )
    tl.store(y + token[:, None] * columns + column[None, :], transposed.to(y.dtype.element_ty), mask=inside)


def packed_linear(
    x: torch.Tensor,
    weight: PackedWeight,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    *,
    precision: str | None = None,
    tiles: Tiles | None = None,
) -> torch.Tensor:
    """Compute activation(x W^T + bias) + residual.

    Args:
        x: ``[..., in]``, of the weight's dtype; sums are float32.
        weight: W.
        bias: ``[out]``, float16, bfloat16 or float32.
        activation: "none", "gelu" or "gelu_tanh".
        residual: ``[..., out]`` of x's dtype, added last.
        precision: precision of float32 products, see `launch.precision_of`.
        tiles: tiles to use. Default: those tuned on this device, or `choose_tiles`.

    Returns:
        ``[..., out]``, contiguous, of x's dtype.

    Raises:
        UsageError: an unsupported dtype, device, activation or precision.
        FormatError: shapes that do not fit.
    """
    device = device_of(x, "packed_linear")
    rows = as_rows(x, weight.in_features, weight.data, "packed_linear")
    shape = (len(rows), weight.out_features)
    residual = epilogue.check_epilogue(bias, activation, residual, shape, weight.data, "packed_linear")
    down, across = _tiles_of(weight)
    if tiles is None:
        tiles = tuning.stored(
            _case(shape[0], weight), device, lambda: candidates(shape[0], down, across, device)
        ) or choose_tiles(shape[0], down, across, device)
    y = x.new_empty(shape)
    if y.numel():
        split = tiles.splits > 1
        out = y.new_empty((tiles.splits, *shape), dtype=torch.float32) if split else y
        _unpack[(down * tiles.splits * triton.cdiv(shape[0], tiles.tokens),)](
            rows, weight.data, weight.words, weight.starts, weight.indptr, None if split else bias,
            None if split else residual, out, *shape, weight.in_features, down, across, tiles.splits, rows.stride(0),
            0 if residual is None else residual.stride(0),
            TOKENS=tiles.tokens, SIDE=SIDE, SPLIT=split, ACTIVATION=activation,
            PRECISION=precision_of(precision, x.dtype), WIDEN=widened(x.dtype),
            num_warps=_WARPS, num_stages=tiles.stages,
        )  # fmt: skip
        if split:
            epilogue.finish(out, y, bias, activation, residual)
    return y.reshape(*x.shape[:-1], shape[1])
