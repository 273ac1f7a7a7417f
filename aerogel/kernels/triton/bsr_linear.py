"""y = activation(x W^T + b) + residual with W in BSR, on tensor cores.

    y[t, i r + n] = sum over blocks p in [indptr[i], indptr[i + 1]), k in [0, c) of x[t, indices[p] c + k] data[p, n, k]

    x         [..., in], contiguous rows with any stride         data      [blocks, r, c], of the dtype of x
    y         [..., out], contiguous                             indices   [blocks] int32, in blocks, ascending in a row
    bias      [out] or None                                      indptr    [out / r + 1] int32
    residual  [..., out] or None                                 order     [out / r] int32, rows by decreasing length

r and c are multiples of 16 up to 128. A weight takes 2 bytes (float32: 4) per stored entry and 4 per block.

A program multiplies a tile of tokens with one block row. For each block it loads `[tokens, c]` of x and `[r, c]` of W
into shared memory, several steps ahead, and adds their product to `[tokens, r]` sums in registers. This does at most r
operations per byte from the L2 cache, which at 5 TB/s limits 64x64 blocks to two fifths of the tensor-core rate of an
H200, and 32x32 blocks to one fifth. Consecutive programs work on different rows of the same tokens, so that programs
that run together read the same tokens. Longer rows start first, so that the last programs to end are short.

If there are too few programs, as with few tokens, the blocks of each row are split evenly among several programs, and
`epilogue.finish` adds their float32 sums in a fixed order. In both cases results are bit-identical from call to call.
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
from aerogel.sparse.formats.bsr import FORMAT

__all__ = ["BsrWeight", "Tiles", "bsr_linear", "candidates", "choose_tiles", "multiply", "reference", "tune"]

_SIDES = range(16, 129, 16)


@dataclass(frozen=True)
class BsrWeight:
    """A block-sparse weight ``[out, in]``. `from_arrays` checks its arrays, the constructor does not.

    Attributes:
        data: ``[blocks, r, c]``, float16, bfloat16 or float32, contiguous.
        indices: ``[blocks]`` int32: block column of each block.
        indptr: ``[out / r + 1]`` int32: start of each block row.
        order: ``[out / r]`` int32: block rows, the longest first.
        in_features: columns of the matrix.
        longest: number of blocks in the longest row.
    """

    data: torch.Tensor
    indices: torch.Tensor
    indptr: torch.Tensor
    order: torch.Tensor
    in_features: int
    longest: int

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, torch.Tensor], in_features: int) -> BsrWeight:
        """Check the arrays of `aerogel.sparse.formats.bsr`, including every index, and sort their rows by length.

        Raises:
            FormatError: the arrays are malformed.
            UsageError: an unsupported dtype or block.
        """
        data, indices, indptr = (arrays[name].detach() for name in FORMAT.names)
        if data.dtype not in DTYPES:
            raise UsageError(
                f"data must be float16, bfloat16 or float32, not {name_of(data)}; convert it with .to()"
            )
        if data.ndim == 3 and not set(data.shape[1:]) <= set(_SIDES):
            raise UsageError(
                f"block {data.shape[1]}x{data.shape[2]}: sides must be multiples of 16 from 16 to 128, for tensor "
                "cores; prune with such blocks, or use format csr or packed"
            )
        host = {"indices": indices.cpu().numpy(), "indptr": indptr.cpu().numpy()}
        # The check only reads the shape of the data, and numpy has no bfloat16.
        shape_only = np.broadcast_to(np.zeros((), np.float32), tuple(data.shape))
        block_rows = data.shape[1] if data.ndim == 3 else 1
        out_features = (len(host["indptr"]) - 1) * block_rows
        FORMAT.check({**host, "data": shape_only}, (out_features, in_features), full=True)
        lengths = np.diff(host["indptr"])
        order = np.argsort(-lengths, kind="stable").astype(np.int32)
        return cls(
            data.contiguous(),
            torch.from_numpy(host["indices"].astype(np.int32)).to(data.device),
            indptr.to(data.device).contiguous(),
            torch.from_numpy(order).to(data.device),
            in_features,
            int(lengths.max(initial=0)),
        )

    @property
    def block(self) -> tuple[int, int]:
        """(r, c) of the blocks."""
        return self.data.shape[1], self.data.shape[2]

    @property
    def out_features(self) -> int:
        """Rows of the matrix."""
        return len(self.order) * self.data.shape[1]


@dataclass(frozen=True)
class Tiles:
    """How a product is split among programs.

    Attributes:
        tokens: rows of x per program, a power of two from 16.
        step: blocks per step.
        splits: programs that share the blocks of a row.
        warps: warps per program.
        stages: pipeline stages.
    """

    tokens: int
    step: int = 1
    splits: int = 1
    warps: int = 4
    stages: int = 3


def choose_tiles(
    tokens: int,
    rows: int,
    longest: int,
    block: tuple[int, int],
    itemsize: int,
    device: Device,
) -> Tiles:
    """Choose tiles for `tokens` tokens and `rows` rows of at most `longest` blocks.

    A step multiplies several blocks if they are narrower than 64, so that it gives the tensor cores 64 terms of a sum.
    """
    high, wide = (triton.next_power_of_2(side) for side in block)
    step = max(1, min(64 // wide, triton.next_power_of_2(longest)))
    tile = min(128, max(16, triton.next_power_of_2(tokens)))
    while tile > 16 and (tile + high) * step * wide * itemsize > device.shared_memory // 2:
        tile //= 2
    # Halve the tokens if otherwise some processors would have no program.
    while tile > 64 and rows * triton.cdiv(tokens, tile) < device.processors:
        tile //= 2
    programs = max(1, rows * triton.cdiv(tokens, tile))
    splits = 1
    if programs < device.processors:
        # Two programs per processor, each with at least two steps.
        splits = max(1, min(triton.cdiv(2 * device.processors, programs), longest // (2 * step), 32))
    # Half the stages contain indices, which are loaded before the tiles they point to. Two programs share a processor.
    stages = 5
    while (
        stages > 1 and (stages + 1) // 2 * (tile + high) * step * wide * itemsize > device.shared_memory // 2
    ):
        stages -= 1
    return Tiles(tile, step, splits, 4 if tile * high <= 128 * 64 else 8, stages)


def candidates(
    tokens: int, rows: int, longest: int, block: tuple[int, int], itemsize: int, device: Device
) -> list[Tiles]:
    """List the tiles to measure, those of `choose_tiles` first."""
    first = choose_tiles(tokens, rows, longest, block, itemsize, device)
    high, wide = (triton.next_power_of_2(side) for side in block)
    found = [first]
    for tile in (first.tokens // 2, first.tokens, 2 * first.tokens):
        for splits in {1, 2, 4, first.splits, 2 * first.splits} if first.splits > 1 else {1}:
            for stages in (3, 5, 7):
                size = (stages + 1) // 2 * (tile + high) * first.step * wide * itemsize
                if 16 <= tile <= 256 and size <= device.shared_memory:
                    found += (Tiles(tile, first.step, splits, warps, stages) for warps in (4, 8))
    return list(dict.fromkeys(found))


def tune(x: torch.Tensor, weight: BsrWeight) -> Tiles:
    """Measure `candidates` for inputs like x on a GPU, and store the fastest for later calls; see `tuning`."""
    device, tokens = device_of(x, "bsr_linear"), x.numel() // weight.in_features
    return tuning.tune(
        _case(tokens, weight),
        device,
        candidates(*_numbers(tokens, weight), device),
        lambda tiles: bsr_linear(x, weight, tiles=tiles),
    )


def _numbers(tokens: int, weight: BsrWeight) -> tuple[int, int, int, tuple[int, int], int]:
    return tokens, len(weight.order), weight.longest, weight.block, weight.data.element_size()


def _case(tokens: int, weight: BsrWeight) -> tuning.Case:
    shape = (weight.out_features, weight.in_features)
    density = weight.data.numel() / max(1, shape[0] * shape[1])
    return tuning.Case("bsr_linear", shape, weight.block, tokens, density, name_of(weight.data))


def reference(
    x: torch.Tensor,
    weight: BsrWeight,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute `bsr_linear` in plain PyTorch, block by block, in the dtype of `x`, also float64."""
    r, c = weight.block
    y = x.new_zeros(*x.shape[:-1], weight.out_features)
    for i in range(len(weight.order)):
        for p in range(int(weight.indptr[i]), int(weight.indptr[i + 1])):
            j = int(weight.indices[p])
            y[..., i * r : (i + 1) * r] += x[..., j * c : (j + 1) * c] @ weight.data[p].to(x.dtype).T
    return epilogue.reference(y, bias, activation, residual)


@triton.jit
def _multiply(
    x,
    data,
    slots,
    indices,
    indptr,
    order,
    bias,
    residual,
    y,
    tokens,
    rows,
    splits,
    x_stride,
    y_stride,
    residual_stride,
    N: tl.constexpr,
    K: tl.constexpr,
    N_STRIDE: tl.constexpr,
    K_STRIDE: tl.constexpr,
    N_TILE: tl.constexpr,
    K_TILE: tl.constexpr,
    TOKENS: tl.constexpr,
    STEP: tl.constexpr,
    SPLIT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Multiply one tile of tokens with one block row. N and K are the sides of a block along y and along the sum.

    `slots` gives the positions of a row's blocks in `data`; None if they are consecutive.
    """
    row = tl.load(order + tl.program_id(0) % rows)
    rest = tl.program_id(0) // rows
    split = rest % splits
    token = (rest // splits).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    begin = tl.load(indptr + row)
    end = tl.load(indptr + row + 1)
    if SPLIT:
        length = end - begin
        end = begin + length * (split + 1) // splits
        begin += length * split // splits

    k = tl.arange(0, STEP * K_TILE)
    n = tl.arange(0, N_TILE)
    valid = token < tokens
    at_token = x + token[:, None] * x_stride
    at_data = data + (k % K_TILE)[:, None] * K_STRIDE + n[None, :] * N_STRIDE
    value = tl.zeros([TOKENS, N_TILE], tl.float32)
    for first in range(begin, end, STEP):
        block = first + k // K_TILE
        # Mask loads beyond the end of the row and beyond the sides of a block.
        live = (block < end) & (k % K_TILE < K)
        column = tl.load(indices + block, mask=live, other=0).to(tl.int64) * K + k % K_TILE
        a = tl.load(at_token + column[None, :], mask=valid[:, None] & live[None, :], other=0.0)
        slot = block if slots is None else tl.load(slots + block, mask=live, other=0)
        b = tl.load(
            at_data + slot.to(tl.int64)[:, None] * (N * K), mask=live[:, None] & (n < N)[None, :], other=0.0
        )
        value = dot(a, b, value, WIDEN, PRECISION)

    column = row.to(tl.int64) * N + n
    if SPLIT:
        token += split.to(tl.int64) * tokens
    else:
        value = epilogue.apply(
            value, bias, residual, residual_stride, token, column, tokens, row * N + N, ACTIVATION
        )
    inside = valid[:, None] & (n < N)[None, :]
    tl.store(y + token[:, None] * y_stride + column[None, :], value.to(y.dtype.element_ty), mask=inside)


def bsr_linear(
    x: torch.Tensor,
    weight: BsrWeight,
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
    device = device_of(x, "bsr_linear")
    rows = as_rows(x, weight.in_features, weight.data, "bsr_linear")
    shape = (rows.shape[0], weight.out_features)
    residual = epilogue.check_epilogue(bias, activation, residual, shape, weight.data, "bsr_linear")
    r, c = weight.block
    if tiles is None:
        numbers = _numbers(shape[0], weight)
        tiles = tuning.stored(
            _case(shape[0], weight), device, lambda: candidates(*numbers, device)
        ) or choose_tiles(*numbers, device)
    y = x.new_empty(shape)
    multiply(
        rows, weight.data, None, weight.indices, weight.indptr, weight.order, y, (r, c), (c, 1), bias, activation,
        residual, precision_of(precision, x.dtype), tiles,
    )  # fmt: skip
    return y.reshape(*x.shape[:-1], shape[1])


def multiply(
    x: torch.Tensor,
    data: torch.Tensor,
    slots: torch.Tensor | None,
    indices: torch.Tensor,
    indptr: torch.Tensor,
    order: torch.Tensor,
    y: torch.Tensor,
    sides: tuple[int, int],
    strides: tuple[int, int],
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    precision: str,
    tiles: Tiles,
) -> None:
    """Launch the kernel on checked arguments. `sides` and `strides` of a block are along (y, sum)."""
    tokens, rows = x.shape[0], len(order)
    if tokens == 0 or rows == 0:
        return
    split = tiles.splits > 1
    out = y.new_empty((tiles.splits, *y.shape), dtype=torch.float32) if split else y
    grid = (rows * tiles.splits * triton.cdiv(tokens, tiles.tokens),)
    _multiply[grid](
        x, data, slots, indices, indptr, order, None if split else bias, None if split else residual, out,
        tokens, rows, tiles.splits, x.stride(0), y.stride(0), 0 if residual is None else residual.stride(0),
        N=sides[0], K=sides[1], N_STRIDE=strides[0], K_STRIDE=strides[1],
        N_TILE=triton.next_power_of_2(sides[0]), K_TILE=triton.next_power_of_2(sides[1]),
        TOKENS=tiles.tokens, STEP=tiles.step, SPLIT=split, ACTIVATION=activation, PRECISION=precision,
        WIDEN=widened(x.dtype),
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    if split:
        epilogue.finish(out, y, bias, activation, residual)
