"""Gradients of y = x W^T + b with W in BSR: of x, of the stored blocks, and of b.

    dx[t, j c + k]  = sum over blocks p = (i, j), n in [0, r) of dy[t, i r + n] data[p, n, k]      (dy W)
    ddata[p, n, k]  = sum over t of dy[t, i r + n] x[t, j c + k]     for a block p = (i, j)   (dy^T x where W is kept)
    db[n]           = sum over t of dy[t, n]

The first is the product of `bsr_linear` with rows and columns exchanged. An index of the blocks by columns, built once,
gives their positions in `data`, and the kernel reads the blocks transposed. No transposed copy of the weight is kept.

The second is a sampled product (SDDMM). Each block has one program, which reads `[tokens, r]` of dy and `[tokens, c]`
of x tile by tile and accumulates `[r, c]` in registers. If there are few blocks, several programs share the tokens of a
block, and `epilogue.finish` adds their sums in a fixed order. No tensor of the size of the dense weight is created.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl

from aerogel.errors import FormatError
from aerogel.kernels.triton import epilogue
from aerogel.kernels.triton.bsr_linear import BsrWeight, Tiles, choose_tiles, multiply
from aerogel.kernels.triton.launch import Device, as_rows, device_of, dot, precision_of, widened

__all__ = [
    "GradIndex",
    "bias_grad",
    "choose_weight_tiles",
    "input_grad",
    "input_grad_reference",
    "weight_grad",
    "weight_grad_reference",
]


@dataclass(frozen=True)
class GradIndex:
    """Index of the blocks of a `BsrWeight` by column. It is valid as long as the mask does not change.

    Attributes:
        rows: ``[blocks]`` int32: block row of each block, in the order of `data`.
        slots: ``[blocks]`` int32: positions in `data`, sorted by column, then by row.
        by_column: ``[blocks]`` int32: block rows in that order.
        indptr: ``[in / c + 1]`` int32: start of each block column in `slots`.
        order: ``[in / c]`` int32: block columns, the longest first.
        longest: number of blocks in the longest column.
    """

    rows: torch.Tensor
    slots: torch.Tensor
    by_column: torch.Tensor
    indptr: torch.Tensor
    order: torch.Tensor
    longest: int

    @classmethod
    def from_weight(cls, weight: BsrWeight) -> GradIndex:
        """Sort the blocks by columns."""
        indices, indptr = weight.indices.cpu().numpy(), weight.indptr.cpu().numpy()
        rows = np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))
        slots = np.argsort(indices, kind="stable").astype(np.int32)
        lengths = np.bincount(indices, minlength=weight.in_features // weight.block[1])
        starts = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=starts[1:])
        order = np.argsort(-lengths, kind="stable").astype(np.int32)

        def moved(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(weight.data.device)

        return cls(
            moved(rows),
            moved(slots),
            moved(rows[slots]),
            moved(starts),
            moved(order),
            int(lengths.max(initial=0)),
        )


def choose_weight_tiles(
    tokens: int, blocks: int, block: tuple[int, int], itemsize: int, device: Device
) -> Tiles:
    """Choose tiles for the gradient of `blocks` blocks; `Tiles.tokens` is the number of tokens per step."""
    sides = sum(triton.next_power_of_2(side) for side in block)
    tile = min(64, max(16, triton.next_power_of_2(tokens)))
    stages = 4
    while stages > 1 and stages * tile * sides * itemsize > device.shared_memory // 2:
        stages -= 1
    splits = 1
    if blocks < 2 * device.processors:
        splits = max(1, min(triton.cdiv(2 * device.processors, max(1, blocks)), tokens // (4 * tile), 32))
    return Tiles(tile, 1, splits, 4 if block[0] * block[1] <= 64 * 64 else 8, stages)


def input_grad_reference(grad: torch.Tensor, weight: BsrWeight) -> torch.Tensor:
    """Compute dx in plain PyTorch, block by block, in the dtype of `grad`, also float64."""
    r, c = weight.block
    dx = grad.new_zeros(*grad.shape[:-1], weight.in_features)
    for i in range(len(weight.order)):
        for p in range(int(weight.indptr[i]), int(weight.indptr[i + 1])):
            j = int(weight.indices[p])
            dx[..., j * c : (j + 1) * c] += grad[..., i * r : (i + 1) * r] @ weight.data[p].to(grad.dtype)
    return dx


def weight_grad_reference(grad: torch.Tensor, x: torch.Tensor, weight: BsrWeight) -> torch.Tensor:
    """Compute ddata in plain PyTorch, block by block, in the dtype of `grad`, also float64."""
    r, c = weight.block
    dy, x = grad.reshape(-1, weight.out_features), x.reshape(-1, weight.in_features)
    result = grad.new_zeros(weight.data.shape)
    for i in range(len(weight.order)):
        for p in range(int(weight.indptr[i]), int(weight.indptr[i + 1])):
            j = int(weight.indices[p])
            result[p] = dy[:, i * r : (i + 1) * r].T @ x[:, j * c : (j + 1) * c]
    return result


def input_grad(
    grad: torch.Tensor,
    weight: BsrWeight,
    index: GradIndex,
    *,
    precision: str | None = None,
    tiles: Tiles | None = None,
) -> torch.Tensor:
    """Compute contiguous dx ``[..., in]`` from dy ``[..., out]``, both of the weight's dtype.

    Raises:
        UsageError: an unsupported dtype or device.
        FormatError: dy has another width.
    """
    device = device_of(grad, "bsr_grad")
    rows = as_rows(grad, weight.out_features, weight.data, "bsr_grad")
    r, c = weight.block
    if tiles is None:
        tiles = choose_tiles(len(rows), len(index.order), index.longest, (c, r), grad.element_size(), device)
    dx = grad.new_empty((len(rows), weight.in_features))
    multiply(
        rows, weight.data, index.slots, index.by_column, index.indptr, index.order, dx, (c, r), (1, c), None, "none",
        None, precision_of(precision, grad.dtype), tiles,
    )  # fmt: skip
    return dx.reshape(*grad.shape[:-1], weight.in_features)


@triton.jit
def _sample(
    grad,
    x,
    rows,
    indices,
    out,
    tokens,
    blocks,
    splits,
    grad_stride,
    x_stride,
    R: tl.constexpr,
    C: tl.constexpr,
    R_TILE: tl.constexpr,
    C_TILE: tl.constexpr,
    TOKENS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Compute the gradient of one block over one chunk of the tokens."""
    block = (tl.program_id(0) // splits).to(tl.int64)
    split = tl.program_id(0) % splits
    n = tl.arange(0, R_TILE)
    k = tl.arange(0, C_TILE)
    at_grad = grad + tl.load(rows + block).to(tl.int64) * R + n
    at_x = x + tl.load(indices + block).to(tl.int64) * C + k
    chunk = tl.cdiv(tl.cdiv(tokens, TOKENS), splits) * TOKENS
    end = tl.minimum(tokens, (split + 1) * chunk)
    value = tl.zeros([R_TILE, C_TILE], tl.float32)
    for first in range(split * chunk, end, TOKENS):
        token = (first + tl.arange(0, TOKENS)).to(tl.int64)
        inside = token < end
        # Read transposed, as [R_TILE, TOKENS]: tensor cores support either order.
        a = tl.load(
            at_grad[:, None] + token[None, :] * grad_stride,
            mask=(n < R)[:, None] & inside[None, :],
            other=0.0,
        )
        b = tl.load(
            at_x[None, :] + token[:, None] * x_stride, mask=inside[:, None] & (k < C)[None, :], other=0.0
        )
        value = dot(a, b, value, WIDEN, PRECISION)
    at = out + (split.to(tl.int64) * blocks + block) * (R * C) + n[:, None] * C + k[None, :]
    tl.store(at, value.to(out.dtype.element_ty), mask=(n < R)[:, None] & (k < C)[None, :])


def weight_grad(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: BsrWeight,
    index: GradIndex,
    *,
    precision: str | None = None,
    tiles: Tiles | None = None,
) -> torch.Tensor:
    """Compute ddata ``[blocks, r, c]`` in the weight's dtype from dy ``[..., out]`` and x ``[..., in]``.

    Raises:
        UsageError: an unsupported dtype or device.
        FormatError: dy or x has another width, or they differ in the number of tokens.
    """
    device = device_of(grad, "bsr_grad")
    dy = as_rows(grad, weight.out_features, weight.data, "bsr_grad")
    x = as_rows(x, weight.in_features, weight.data, "bsr_grad")
    if len(dy) != len(x):
        raise FormatError(
            f"bsr_grad: the gradient has {len(dy)} tokens and the input {len(x)}; they must be equal"
        )
    blocks, r, c = weight.data.shape
    if tiles is None:
        tiles = choose_weight_tiles(len(x), blocks, (r, c), x.element_size(), device)
    result = x.new_empty((blocks, r * c))
    if blocks:
        split = tiles.splits > 1
        out = result.new_empty((tiles.splits, blocks, r * c), dtype=torch.float32) if split else result
        _sample[(blocks * tiles.splits,)](
            dy, x, index.rows, weight.indices, out, len(x), blocks, tiles.splits, dy.stride(0), x.stride(0),
            R=r, C=c, R_TILE=triton.next_power_of_2(r), C_TILE=triton.next_power_of_2(c), TOKENS=tiles.tokens,
            PRECISION=precision_of(precision, x.dtype), WIDEN=widened(x.dtype),
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
        if split:
            epilogue.finish(out, result, None, "none", None)
    return result.reshape(blocks, r, c)


def bias_grad(grad: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Compute db ``[out]`` in `dtype`, accumulated in float32."""
    return grad.detach().reshape(-1, grad.shape[-1]).sum(0, dtype=torch.float32).to(dtype)
