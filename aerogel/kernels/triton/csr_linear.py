"""y = activation(x W^T + b) + residual with W in CSR, on CUDA cores.

    y[t, n] = sum over p in [indptr[n], indptr[n + 1]) of data[p] x[t, indices[p]]

    x         [..., in], with any strides                        data      [entries], of the dtype of x
    y         [..., out], contiguous                             indices   [entries] uint16 or int32, ascending in a row
    bias      [out] or None                                      indptr    [out + 1] int32
    residual  [..., out] or None                                 order     [out] int32, rows by decreasing length

A weight takes 2 bytes (float32: 4) per entry, 2 more for its column (4 beyond 65,536 columns) and 8 per row.

Each entry is multiplied with one column of x for all tokens, so x is read feature-major, `[in, tokens]`. A warp then
reads adjacent tokens of one feature, 16 bytes per thread; token-major it would read one word from each of 32 cache
lines. An input whose tokens are already adjacent in memory (a transposed view) is used directly. Any other input is
transposed once, which costs two passes over x, while the product costs one pass per entry of a column.

Each multiplication needs one number from the L1 cache, which delivers 32 per cycle, while 128 could be multiplied. This
limits the speed, and x must stay in L1. A program therefore keeps one tile of tokens and processes many rows: all its
`[in, tile]` numbers fit in L1. It processes several rows at once; these have nearly equal lengths, because rows are
sorted by length. Programs that share the tokens take the groups of rows in turn, so that their work is equal. The
entries of a row are added in a fixed order, so results are bit-identical from call to call.

Up to 16 tokens, a tile contains few tokens and many entries, of which each thread adds up some; with one token this is
a matrix-vector product. With more tokens, sums are written to a float32 `[out, tokens]`, which `epilogue.finish`
transposes.
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
from aerogel.kernels.triton.launch import DTYPES, Device, as_matrix, device_of, name_of
from aerogel.sparse.formats.csr import FORMAT

__all__ = ["CsrWeight", "Tiles", "candidates", "choose_tiles", "csr_linear", "reference", "tune"]

_FEW_TOKENS = 16


@dataclass(frozen=True)
class CsrWeight:
    """A sparse weight ``[out, in]``. `from_arrays` checks its arrays, the constructor does not.

    Attributes:
        data: ``[entries]``, float16, bfloat16 or float32, contiguous.
        indices: ``[entries]`` uint16 or int32: column of each entry.
        indptr: ``[out + 1]`` int32: start of each row.
        order: ``[out]`` int32: rows, the longest first.
        in_features: columns of the matrix.
    """

    data: torch.Tensor
    indices: torch.Tensor
    indptr: torch.Tensor
    order: torch.Tensor
    in_features: int

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, torch.Tensor], in_features: int) -> CsrWeight:
        """Check the arrays of `aerogel.sparse.formats.csr`, including every index, and sort their rows by length.

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
        FORMAT.check({**host, "data": shape_only}, (len(host["indptr"]) - 1, in_features), full=True)
        order = np.argsort(-np.diff(host["indptr"]), kind="stable").astype(np.int32)
        return cls(
            data.contiguous(),
            indices.to(data.device).contiguous(),
            indptr.to(data.device).contiguous(),
            torch.from_numpy(order).to(data.device),
            in_features,
        )

    @property
    def out_features(self) -> int:
        """Rows of the matrix."""
        return len(self.order)


@dataclass(frozen=True)
class Tiles:
    """How a product is split among programs. All numbers except `parts` are powers of two.

    Attributes:
        rows: rows that a program processes at once.
        entries: entries of each of these rows that it processes at once.
        tokens: tokens per program.
        parts: programs that share the rows of a tile of tokens.
        warps: warps per program.
    """

    rows: int
    entries: int
    tokens: int
    parts: int
    warps: int = 4


def choose_tiles(tokens: int, rows: int, mean: float, itemsize: int, device: Device) -> Tiles:
    """Choose tiles for `tokens` tokens and `rows` rows of `mean` entries; x has `itemsize` bytes per number."""
    if tokens <= _FEW_TOKENS:
        tile = triton.next_power_of_2(max(1, tokens))
        # As many entries at once as a row has, limited by 128 threads with 16 sums each.
        entries = max(1, min(512 // tile, triton.next_power_of_2(max(1, round(mean / 2)))))
        high = max(1, min(16, 2048 // (entries * tile)))
        # Four programs per processor hide the latency of their loads.
        while high > 1 and rows < 4 * device.processors * high:
            high //= 2
        size = high * entries * tile
        return Tiles(high, entries, tile, triton.cdiv(max(1, rows), high), max(1, min(4, size // 128)))
    # 128 bytes of tokens fill a cache line.
    tile = 128 // itemsize
    high, tiles = 16, triton.cdiv(tokens, tile)
    # Eight programs per processor hide the latency of their loads.
    parts = max(1, min(triton.cdiv(8 * device.processors, tiles), triton.cdiv(max(1, rows), high)))
    return Tiles(high, 1, tile, parts)


def candidates(tokens: int, rows: int, mean: float, itemsize: int, device: Device) -> list[Tiles]:
    """List the tiles to measure, those of `choose_tiles` first."""
    first = choose_tiles(tokens, rows, mean, itemsize, device)
    found = [first]
    for high in (1, 2, 4, 8, 16, 32):
        for entries in {1, 2, 4, first.entries // 2, first.entries, 2 * first.entries} - {0}:
            if high * entries * first.tokens > 4096:
                continue
            parts = triton.cdiv(max(1, rows), high)
            for shared in (first.parts, 2 * first.parts) if tokens > _FEW_TOKENS else (parts,):
                found += (Tiles(high, entries, first.tokens, min(shared, parts), w) for w in (1, 2, 4, 8))
    return list(dict.fromkeys(found))


def tune(x: torch.Tensor, weight: CsrWeight) -> Tiles:
    """Measure `candidates` for inputs like x on a GPU, and store the fastest for later calls; see `tuning`."""
    device, tokens = device_of(x, "csr_linear"), x.numel() // weight.in_features
    return tuning.tune(
        _case(tokens, weight),
        device,
        candidates(tokens, weight.out_features, _mean(weight), x.element_size(), device),
        lambda tiles: csr_linear(x, weight, tiles=tiles),
    )


def _mean(weight: CsrWeight) -> float:
    return len(weight.data) / max(1, weight.out_features)


def _case(tokens: int, weight: CsrWeight) -> tuning.Case:
    shape = (weight.out_features, weight.in_features)
    return tuning.Case(
        "csr_linear", shape, (1, 1), tokens, _mean(weight) / weight.in_features, name_of(weight.data)
    )


def reference(
    x: torch.Tensor,
    weight: CsrWeight,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute `csr_linear` in plain PyTorch, row by row, in the dtype of `x`, also float64."""
    columns = weight.indices.to(torch.int64)
    y = x.new_zeros(*x.shape[:-1], weight.out_features)
    for n in range(weight.out_features):
        row = slice(int(weight.indptr[n]), int(weight.indptr[n + 1]))
        y[..., n] = x[..., columns[row]] @ weight.data[row].to(x.dtype)
    return epilogue.reference(y, bias, activation, residual)


@triton.jit
def _gather(
    x,
    data,
    indices,
    indptr,
    order,
    bias,
    residual,
    y,
    tokens,
    width,
    rows,
    parts,
    x_stride,
    residual_stride,
    ROWS: tl.constexpr,
    ENTRIES: tl.constexpr,
    TOKENS: tl.constexpr,
    DIRECT: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """Multiply one tile of tokens with every parts-th group of rows.

    y is ``[tokens, out]`` if DIRECT, otherwise float32 ``[out, tokens]`` without the epilogue.
    """
    part = tl.program_id(0) % parts
    token = (tl.program_id(0) // parts).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    at_token = (x + token)[None, None, :]
    entry = tl.arange(0, ENTRIES)
    for group in range(part, tl.cdiv(rows, ROWS), parts):
        rank = group * ROWS + tl.arange(0, ROWS)
        row = tl.load(order + rank, mask=rank < rows, other=0)
        begin = tl.load(indptr + row, mask=rank < rows, other=0)
        end = tl.load(indptr + row + 1, mask=rank < rows, other=0)
        sums = tl.zeros([ROWS, ENTRIES, TOKENS], tl.float32)
        # Rows are sorted by length, so the first row of a group is its longest.
        for first in range(0, tl.max(end - begin, axis=0), ENTRIES):
            at = begin[:, None] + first + entry[None, :]
            live = at < end[:, None]
            column = tl.load(indices + at, mask=live, other=0).to(tl.int64)
            weight = tl.load(data + at, mask=live, other=0.0).to(tl.float32)
            number = tl.load(
                at_token + column[:, :, None] * x_stride,
                mask=live[:, :, None] & (token < width)[None, None, :],
                other=0.0,
            )
            sums += weight[:, :, None] * number.to(tl.float32)
        value = tl.sum(sums, axis=1)
        inside = (rank < rows)[:, None] & (token < tokens)[None, :]
        if DIRECT:
            # Rows beyond the last one get the number `rows`, which is masked.
            column = tl.where(rank < rows, row, rows).to(tl.int64)
            transposed = epilogue.apply(
                tl.trans(value), bias, residual, residual_stride, token, column, tokens, rows, ACTIVATION
            )
            at = y + token[:, None] * rows + column[None, :]
            tl.store(at, transposed.to(y.dtype.element_ty), mask=tl.trans(inside))
        else:
            tl.store(y + row.to(tl.int64)[:, None] * tokens + token[None, :], value, mask=inside)


def csr_linear(
    x: torch.Tensor,
    weight: CsrWeight,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    *,
    tiles: Tiles | None = None,
) -> torch.Tensor:
    """Compute activation(x W^T + bias) + residual.

    Args:
        x: ``[..., in]``, of the weight's dtype; products and sums are float32.
        weight: W.
        bias: ``[out]``, float16, bfloat16 or float32.
        activation: "none", "gelu" or "gelu_tanh".
        residual: ``[..., out]`` of x's dtype, added last.
        tiles: tiles to use. Default: those tuned on this device, or `choose_tiles`.

    Returns:
        ``[..., out]``, contiguous, of x's dtype.

    Raises:
        UsageError: an unsupported dtype, device or activation.
        FormatError: shapes that do not fit.
    """
    device = device_of(x, "csr_linear")
    matrix = as_matrix(x, weight.in_features, weight.data, "csr_linear")
    tokens, rows = len(matrix), weight.out_features
    residual = epilogue.check_epilogue(bias, activation, residual, (tokens, rows), weight.data, "csr_linear")
    if tiles is None:
        numbers = (tokens, rows, _mean(weight), x.element_size(), device)
        tiles = tuning.stored(_case(tokens, weight), device, lambda: candidates(*numbers)) or choose_tiles(
            *numbers
        )
    y = x.new_empty((tokens, rows))
    if tokens and rows:
        features, width = _features(matrix)
        direct = tokens <= _FEW_TOKENS
        out = y if direct else y.new_empty((rows, tokens), dtype=torch.float32)
        _gather[(triton.cdiv(tokens, tiles.tokens) * tiles.parts,)](
            features, weight.data, weight.indices, weight.indptr, weight.order, bias if direct else None,
            residual if direct else None, out, tokens, width, rows, tiles.parts, features.stride(0),
            0 if residual is None else residual.stride(0),
            ROWS=tiles.rows, ENTRIES=tiles.entries, TOKENS=tiles.tokens, DIRECT=direct, ACTIVATION=activation,
            num_warps=tiles.warps,
        )  # fmt: skip
        if not direct:
            epilogue.finish(out.T[None], y, bias, activation, residual)
    return y.reshape(*x.shape[:-1], rows)


def _features(matrix: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Transpose x ``[tokens, in]`` to ``[in, tokens]`` with contiguous rows; also return their readable length."""
    tokens, width = matrix.shape
    if matrix.stride(0) == 1 or tokens == 1:
        return matrix.T, tokens
    # Pad to whole vectors, so that these load without a mask. Results of the padding are never stored.
    few = tokens <= _FEW_TOKENS
    padded = triton.next_power_of_2(tokens) if few else triton.cdiv(tokens, _FEW_TOKENS) * _FEW_TOKENS
    features = matrix.new_empty((width, padded))
    features[:, :tokens].copy_(matrix.T)
    return features, padded
