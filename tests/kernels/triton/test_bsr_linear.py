from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aerogel.errors import FormatError, UsageError
from aerogel.kernels.triton.bsr_linear import BsrWeight, Tiles, bsr_linear, choose_tiles, reference
from aerogel.kernels.triton.launch import Device

Arrays = Callable[..., dict[str, torch.Tensor]]
Draw = Callable[..., torch.Tensor]

SPLIT = Tiles(tokens=16, step=2, splits=3, warps=4, stages=2)


def dense_of(arrays: dict[str, torch.Tensor], cols: int) -> torch.Tensor:
    """The matrix in float64, by a loop independent of the code under test."""
    data, indices, indptr = (arrays[name].cpu() for name in ("data", "indices", "indptr"))
    _, r, c = data.shape
    dense = torch.zeros((len(indptr) - 1) * r, cols, dtype=torch.float64)
    for i in range(len(indptr) - 1):
        for p in range(int(indptr[i]), int(indptr[i + 1])):
            j = int(indices.numpy()[p])
            dense[i * r : (i + 1) * r, j * c : (j + 1) * c] = data[p]
    return dense


def check(near: Any, arrays: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> None:
    dense, wide = dense_of(arrays, x.shape[-1]), x.double().cpu()
    near(y, wide @ dense.T, wide.abs() @ dense.abs().T, x.shape[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("block", [(16, 16), (32, 32), (64, 64), (16, 64), (32, 16), (48, 16), (16, 48)])
def test_blocks_and_dtypes(
    pruned: Arrays, draw: Draw, near: Any, block: tuple[int, int], dtype: torch.dtype
) -> None:
    cols = 4 * block[1]
    arrays = pruned("bsr", 3 * block[0], cols, block=block, dtype=dtype, density=0.5)
    weight, x = BsrWeight.from_arrays(arrays, cols), draw(19, cols, dtype=dtype)
    for tiles in (None, SPLIT):
        check(near, arrays, x, bsr_linear(x, weight, tiles=tiles))


@pytest.mark.parametrize("tokens", [1, 2, 15, 16, 17, 63, 65, 127, 130])
def test_tokens(pruned: Arrays, draw: Draw, near: Any, tokens: int) -> None:
    arrays = pruned("bsr", 64, 96, block=(32, 32))
    x = draw(tokens, 96)
    check(near, arrays, x, bsr_linear(x, BsrWeight.from_arrays(arrays, 96)))


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_density_zero_and_one(pruned: Arrays, draw: Draw, near: Any, density: float) -> None:
    arrays = pruned("bsr", 64, 64, block=(16, 16), density=density)
    x = draw(5, 64)
    for tiles in (None, SPLIT):
        check(near, arrays, x, bsr_linear(x, BsrWeight.from_arrays(arrays, 64), tiles=tiles))


@pytest.mark.parametrize("tiles", [None, SPLIT])
@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_epilogue(
    pruned: Arrays, draw: Draw, near: Any, activation: str, dtype: torch.dtype, tiles: Tiles | None
) -> None:
    arrays = pruned("bsr", 48, 32, block=(16, 16), dtype=dtype)
    x, bias, residual = draw(2, 3, 32, dtype=dtype), draw(48), draw(2, 3, 48, dtype=dtype, seed=1)
    y = bsr_linear(x, BsrWeight.from_arrays(arrays, 32), bias, activation, residual, tiles=tiles)
    dense, wide = dense_of(arrays, 32), x.double().cpu()
    expected = wide @ dense.T + bias.double().cpu()
    if activation != "none":
        approximate = "tanh" if activation == "gelu_tanh" else "none"
        expected = torch.nn.functional.gelu(expected, approximate=approximate)
    magnitude = wide.abs() @ dense.abs().T + bias.double().cpu().abs() + residual.double().cpu().abs()
    near(y, expected + residual.double().cpu(), magnitude, 33)


def test_reference_equals_the_dense_product(pruned: Arrays, draw: Draw) -> None:
    arrays = pruned("bsr", 48, 64, block=(16, 32))
    x, bias = draw(3, 64).double(), draw(48).double()
    found = reference(x, BsrWeight.from_arrays(arrays, 64), bias).cpu()
    torch.testing.assert_close(found, x.cpu() @ dense_of(arrays, 64).T + bias.cpu(), rtol=1e-12, atol=1e-12)


def test_strided_inputs_among_nan(pruned: Arrays, draw: Draw, near: Any, device: str) -> None:
    arrays = pruned("bsr", 32, 32, block=(16, 16))
    weight = BsrWeight.from_arrays(arrays, 32)
    sea = torch.full((9, 80), float("nan"), device=device)
    sea[1:8, 24:56] = draw(7, 32)
    inside = sea[1:8, 24:56]
    assert not inside.is_contiguous()
    for x in (inside, inside[::2], draw(32, 7).T, draw(4, 32, 3).transpose(1, 2)):
        for tiles in (None, SPLIT):
            check(near, arrays, x, bsr_linear(x, weight, tiles=tiles))
    assert bsr_linear(inside[:0], weight).shape == (0, 32)


def test_results_are_bit_identical(pruned: Arrays, draw: Draw) -> None:
    weight = BsrWeight.from_arrays(pruned("bsr", 64, 128, block=(16, 16), dtype=torch.float16), 128)
    x = draw(33, 128, dtype=torch.float16)
    for tiles in (None, SPLIT):
        assert torch.equal(bsr_linear(x, weight, tiles=tiles), bsr_linear(x, weight, tiles=tiles))


def test_longer_rows_come_first(pruned: Arrays) -> None:
    weight = BsrWeight.from_arrays(pruned("bsr", 96, 128, block=(16, 16)), 128)
    lengths = np.diff(weight.indptr.cpu().numpy())
    assert lengths[1] == 0
    assert lengths[weight.order.cpu().numpy()].tolist() == sorted(lengths, reverse=True)
    assert weight.longest == lengths.max()


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        ({"data": torch.zeros(4, 8, 8)}, UsageError, "block 8x8: sides must be multiples of 16"),
        ({"data": torch.zeros(4, 16, 24)}, UsageError, "block 16x24"),
        ({"data": torch.zeros(4, 16, 16).double()}, UsageError, "data must be .*, not float64"),
        ({"data": torch.zeros(3, 16, 16)}, FormatError, "indices has 4 entries where data has 3"),
        ({"data": torch.zeros(4, 256)}, FormatError, r"data must be \[blocks, r, c\]"),
        ({"indices": torch.tensor([0, 1, 0, 2], dtype=torch.int32)}, FormatError, r"outside \[0, 2\)"),
        ({"indices": torch.tensor([0, 1, 0, -1], dtype=torch.int32)}, FormatError, r"outside \[0, 2\)"),
        ({"indices": torch.tensor([0, 1, 0, 1])}, FormatError, "indices must be one-dimensional uint16 or int32"),
        ({"indptr": torch.tensor([0, 5, 4], dtype=torch.int32)}, FormatError, "indptr falls"),
        ({"indptr": torch.tensor([0, 2, 4])}, FormatError, "indptr must be int32"),
    ],
)  # fmt: skip
def test_rejects_malformed_arrays(
    device: str, broken: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    sound = {
        "data": torch.zeros(4, 16, 16),
        "indices": torch.tensor([0, 1, 0, 1], dtype=torch.int32),
        "indptr": torch.tensor([0, 2, 4], dtype=torch.int32),
    }
    arrays = {name: array.to(device) for name, array in {**sound, **broken}.items()}
    with pytest.raises(error, match=message):
        BsrWeight.from_arrays(arrays, 32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"x": torch.zeros(2, 32).double()},
            UsageError,
            "input must be float32 like the weight, not float64",
        ),
        ({"x": torch.zeros(2, 32).half()}, UsageError, "input must be float32 like the weight, not float16"),
        ({"x": torch.zeros(2, 31)}, FormatError, r"input must be \[\.\.\., 32\], not \[2, 31\]"),
        ({"x": torch.zeros(())}, FormatError, r"input must be \[\.\.\., 32\]"),
        ({"bias": torch.zeros(31)}, FormatError, r"bias of bsr_linear must be contiguous \[32\]"),
        ({"bias": torch.zeros(64)[::2]}, FormatError, r"must be contiguous"),
        ({"bias": torch.zeros(32).long()}, UsageError, "not int64"),
        ({"residual": torch.zeros(2, 31)}, FormatError, r"residual of bsr_linear must be \[2, 32\]"),
        ({"residual": torch.zeros(2, 32).half()}, UsageError, "residual of bsr_linear must be float32"),
        ({"activation": "relu"}, UsageError, "unknown activation 'relu'.*gelu_tanh"),
        ({"precision": "tf23"}, UsageError, "unknown precision 'tf23'; known: ieee, tf32"),
    ],
)
def test_rejects_invalid_arguments(
    pruned: Arrays, device: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    weight = BsrWeight.from_arrays(pruned("bsr", 32, 32, block=(16, 16)), 32)
    moved = {name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in arguments.items()}
    with pytest.raises(error, match=message):
        bsr_linear(**{"x": torch.zeros(2, 32, device=device), "weight": weight, **moved})


@pytest.mark.parametrize("tokens", [1, 16, 100, 512, 4096, 65_536])
@pytest.mark.parametrize("block", [(16, 16), (32, 32), (64, 64), (128, 128), (48, 16)])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_tiles_fit_the_device(tokens: int, block: tuple[int, int], itemsize: int) -> None:
    for device in (Device(), Device("small", 20, 101_376)):
        for longest in (0, 1, 7, 500):
            tiles = choose_tiles(tokens, 24, longest, block, itemsize, device)
            assert tiles.tokens in (16, 32, 64, 128)
            assert 1 <= tiles.splits <= max(1, longest)
            side = max(16, 1 << (block[1] - 1).bit_length())
            size = (tiles.tokens + block[0]) * tiles.step * side * itemsize * ((tiles.stages + 1) // 2)
            assert size <= device.shared_memory


def test_splits_rows_for_few_tokens_only() -> None:
    assert choose_tiles(16, 12, 6, (64, 64), 2, Device()).splits > 1
    many = choose_tiles(65_536, 12, 6, (64, 64), 2, Device())
    assert (many.tokens, many.splits) == (128, 1)
