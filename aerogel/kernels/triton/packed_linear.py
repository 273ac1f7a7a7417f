"""y = activation(x W^T + b) + residual with W unstructured, loaded sparse and multiplied as dense tiles.

    y[t, n] = sum over k of x[t, k] W[n, k]

W is cut into tiles of 64 x 64, numbered along its rows. Tile i has

    words     [tiles, 64, 2] int32     a bit per entry, lowest first: which of 32 columns of a row are kept
    starts    [tiles, 64, 2] uint16    entries of the tile that lie before those of the word
    indptr    [tiles + 1] int32        where the tile's entries start in data
    data      [entries]                the entries that are kept, row by row within the tile

so an entry's place is indptr[tile] + starts[word] + (bits set below its own in the word). Bytes per weight at a density
d, in 16 bits: 1/8 + 1/16 + 2 d, at 10% kept 0.39, or 19% of dense; at 20%, 29%; at 5%, 14%. Pairs of a value and its
place in the tile take 4 d instead: as much at 9%, more above it, and they would have to be scattered to their places
on chip, which Triton cannot express: it can only gather. Hence the mask: each of 128 threads unpacks one word of a
tile, bit by bit, with one load for each entry that is kept, and its 32 neighbouring places go to shared memory 16 bytes
at a time. Counting the bits below each place instead (POPC) compiles to three times as many loads and stores: a word, a
start and a store for every place.

The dense tile goes to the tensor cores without ever being in memory. Loading and multiplying take a fifth of the
bytes of a dense product; unpacking takes about eight instructions for each place of the tile, kept or not,
however few tokens there are. Where memory is slow against arithmetic the first wins, on an H200 with its 4.8 TB/s the
second may bound the speed; `csr_linear`, whose work falls with the density, is the other choice for few tokens.

Few tokens make few programs, so a row of tiles is split among several, whose float32 sums `epilogue.finish` adds up in
a fixed order: results are equal bit for bit from call to call.
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
# A thread for each word of a tile.
_WARPS = SIDE * SIDE // _WORD // 32


@dataclass(frozen=True)
class PackedWeight:
    """A weight ``[out, in]`` in packed tiles; `from_csr` makes one, the constructor takes it as sound.

    Attributes:
        data: ``[entries]``, float16, bfloat16 or float32.
        words: ``[tiles, 64, 2]`` int32.
        starts: ``[tiles, 64, 2]`` uint16.
        indptr: ``[tiles + 1]`` int32.
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
        """Pack the arrays of `aerogel.sparse.formats.csr`, of which every index is checked.

        Raises:
            FormatError: they break the rules of the format.
            UsageError: a dtype that the kernels do not take.
        """
        data, indices, indptr = (arrays[name].detach() for name in FORMAT.names)
        if data.dtype not in DTYPES:
            raise UsageError(
                f"data is {name_of(data)}; kernels take float16, bfloat16 or float32: convert with .to()"
            )
        host = {"indices": indices.cpu().numpy(), "indptr": indptr.cpu().numpy()}
        # Only the shape of the data matters to the check, and numpy has no bfloat16.
        shape_only = np.broadcast_to(np.zeros((), np.float32), tuple(data.shape))
        out_features = len(host["indptr"]) - 1
        FORMAT.check({**host, "data": shape_only}, (out_features, in_features), full=True)
        row = np.repeat(np.arange(out_features), np.diff(host["indptr"]))
        column = host["indices"].astype(np.int64)
        across = -(-in_features // SIDE)
        tiles = -(-out_features // SIDE) * across
        # Rows within tiles, numbered in the order of storage; columns ascend already.
        line = (row // SIDE * across + column // SIDE) * SIDE + row % SIDE
        place = np.argsort(line, kind="stable")
        word = line * (SIDE // _WORD) + column % SIDE // _WORD
        size = tiles * SIDE * SIDE // _WORD
        # Sums of distinct powers of two below 2^32, which float64 holds.
        words = np.bincount(word, weights=2.0 ** (column % _WORD), minlength=size).astype(np.uint32)
        before = np.zeros(size + 1, np.int64)
        np.cumsum(np.bincount(word, minlength=size), out=before[1:])
        begins = before[:: SIDE * SIDE // _WORD]
        starts = before[:-1].reshape(tiles, -1) - begins[:-1, None]
        shape = (tiles, SIDE, SIDE // _WORD)

        def moved(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(data.device)

        return cls(
            data[moved(place)],
            moved(words.view(np.int32).reshape(shape)),
            moved(starts.astype(np.uint16).reshape(shape)),
            moved(begins.astype(np.int32)),
            out_features,
            in_features,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.numel() * a.element_size() for a in (self.data, self.words, self.starts, self.indptr))


@dataclass(frozen=True)
class Tiles:
    """How a product is cut up.

    Attributes:
        tokens: that one program takes, a power of two from 16.
        splits: programs that share the columns of a row of tiles.
        stages: steps that are in flight.
    """

    tokens: int
    splits: int = 1
    stages: int = 3


def choose_tiles(tokens: int, down: int, across: int, device: Device) -> Tiles:
    """Tiles for `tokens` tokens and a weight of `down` by `across` packed tiles."""
    tile = min(128, max(16, triton.next_power_of_2(tokens)))
    programs = max(1, down * triton.cdiv(tokens, tile))
    # Unpacking waits for loads that depend on loads: four programs a processor hide that, of two tiles at least.
    splits = max(1, min(triton.cdiv(4 * device.processors, programs), across // 2, 32))
    return Tiles(tile, splits if programs < 2 * device.processors else 1)


def candidates(tokens: int, down: int, across: int, device: Device) -> list[Tiles]:
    """Tiles worth measuring, those of `choose_tiles` first."""
    first = choose_tiles(tokens, down, across, device)
    splits = {s for s in (1, 2, 4, 8, 16, first.splits) if s <= across}
    rest = (Tiles(first.tokens, s, stages) for s in sorted(splits) for stages in (2, 3, 4))
    return [first, *(tiles for tiles in rest if tiles != first)]


def tune(x: torch.Tensor, weight: PackedWeight) -> Tiles:
    """Measure `candidates` on a GPU for inputs like x, and keep the fastest for later calls; see `tuning`."""
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
    """The same in plain PyTorch, word by word, in the dtype of `x` (float64 too)."""
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
def _expand(data, word, place):
    """Dense rows ``[n, 32 w]`` of words ``[n, w]`` whose first entries are at `place` ``[n, w]``.

    Each thread unpacks whole words, bit by bit: neighbouring places come to lie in one thread, which needs its word and
    its place only once.
    """
    values = ()
    for bit in tl.static_range(32):
        kept = (word >> bit) & 1
        values = values + (tl.load(data + place, mask=kept != 0, other=0.0),)  # noqa: RUF005 - Triton has no other
        place += kept
    # Halves are joined, first those 16 bits apart, last neighbours: the axes then count the bits of a column's number.
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
    """One share of a row of tiles times one tile of tokens."""
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
        place = tl.load(indptr + tile) + tl.load(starts + tile * (SIDE * SIDE // 32) + in_tile).to(tl.int32)
        a = _expand(data, word, place)
        k = wide * SIDE + c
        b = tl.load(at_token + k[:, None], mask=(k < width)[:, None] & (token < tokens)[None, :], other=0.0)
        value = dot(a, b, value, WIDEN, PRECISION)

    turned = tl.trans(value)
    column = high.to(tl.int64) * SIDE + r
    inside = (token < tokens)[:, None] & (column < columns)[None, :]
    if SPLIT:
        token += split.to(tl.int64) * tokens
    else:
        turned = epilogue.apply(
            turned, bias, residual, residual_stride, token, column, tokens, columns, ACTIVATION
        )
    tl.store(y + token[:, None] * columns + column[None, :], turned.to(y.dtype.element_ty), mask=inside)


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
    """activation(x W^T + bias) + residual.

    Args:
        x: ``[..., in]``, of the weight's dtype; sums are float32.
        weight: W.
        bias: ``[out]``, float16, bfloat16 or float32.
        activation: "none", "gelu" or "gelu_tanh".
        residual: ``[..., out]`` of x's dtype, added last.
        precision: of float32 products, see `launch.precision_of`.
        tiles: None for what was tuned on this device or else `choose_tiles`.

    Returns:
        ``[..., out]``, contiguous, of x's dtype.

    Raises:
        UsageError: a dtype, device or word that is not taken; the message says what is.
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
