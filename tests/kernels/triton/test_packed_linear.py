from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aerogel.errors import FormatError, UsageError
from aerogel.kernels.triton.launch import Device
from aerogel.kernels.triton.packed_linear import (
    SIDE,
    PackedWeight,
    Tiles,
    choose_tiles,
    packed_linear,
    reference,
)
from aerogel.sparse.formats.csr import FORMAT

Arrays = Callable[..., dict[str, torch.Tensor]]
Draw = Callable[..., torch.Tensor]

SPLIT = Tiles(tokens=16, splits=2)


def dense_of(arrays: dict[str, torch.Tensor], cols: int) -> torch.Tensor:
    host = {name: arrays[name].cpu().numpy() for name in ("indices", "indptr")}
    host["data"] = arrays["data"].double().cpu().numpy()
    return torch.from_numpy(FORMAT.decode(host, (len(host["indptr"]) - 1, cols)))


def check(near: Any, arrays: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> None:
    dense, wide = dense_of(arrays, x.shape[-1]), x.double().cpu()
    near(y, wide @ dense.T, wide.abs() @ dense.abs().T, x.shape[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(64, 64), (70, 130), (3, 200), (129, 5)])
@pytest.mark.parametrize("tiles", [None, SPLIT])
def test_shapes_and_dtypes(
    pruned: Arrays, draw: Draw, near: Any, shape: tuple[int, int], dtype: torch.dtype, tiles: Tiles | None
) -> None:
    arrays = pruned("csr", *shape, dtype=dtype, density=0.2)
    x = draw(5, shape[1], dtype=dtype)
    check(near, arrays, x, packed_linear(x, PackedWeight.from_csr(arrays, shape[1]), tiles=tiles))


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 32, 65, 130])
def test_tokens(pruned: Arrays, draw: Draw, near: Any, tokens: int) -> None:
    arrays = pruned("csr", 30, 100, density=0.1)
    x = draw(tokens, 100)
    check(near, arrays, x, packed_linear(x, PackedWeight.from_csr(arrays, 100)))


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_density_zero_and_one(pruned: Arrays, draw: Draw, near: Any, density: float) -> None:
    arrays = pruned("csr", 70, 70, density=density)
    x = draw(3, 70)
    check(near, arrays, x, packed_linear(x, PackedWeight.from_csr(arrays, 70)))


@pytest.mark.parametrize("tiles", [None, SPLIT])
@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh"])
def test_epilogue(pruned: Arrays, draw: Draw, near: Any, activation: str, tiles: Tiles | None) -> None:
    arrays = pruned("csr", 40, 140, dtype=torch.float16)
    x, bias, residual = draw(2, 3, 140).half(), draw(40), draw(2, 3, 40, seed=1).half()
    y = packed_linear(x, PackedWeight.from_csr(arrays, 140), bias, activation, residual, tiles=tiles)
    dense, wide = dense_of(arrays, 140), x.double().cpu()
    expected = wide @ dense.T + bias.double().cpu()
    if activation != "none":
        approximate = "tanh" if activation == "gelu_tanh" else "none"
        expected = torch.nn.functional.gelu(expected, approximate=approximate)
    magnitude = wide.abs() @ dense.abs().T + bias.double().cpu().abs() + residual.double().cpu().abs()
    near(y, expected + residual.double().cpu(), magnitude, 141)


def test_hand_worked_tile(device: str) -> None:
    # Row 1 keeps columns 0, 31, 32 and 63 of the first tile and column 0 of the second.
    arrays = {
        "data": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], device=device),
        "indices": torch.tensor([0, 31, 32, 63, 64, 7], dtype=torch.int32, device=device),
        "indptr": torch.tensor([0, 0, 5, 6], dtype=torch.int32, device=device),
    }
    weight = PackedWeight.from_csr(arrays, 65)
    assert weight.data.tolist() == [1, 2, 3, 4, 6, 5]
    assert weight.indptr.tolist() == [0, 5, 6]
    assert weight.words[0, :3].tolist() == [[0, 0], [1 - 2**31, 1 - 2**31], [128, 0]]
    assert weight.starts[0, :4].tolist() == [[0, 0], [0, 2], [4, 5], [5, 5]]
    x = torch.eye(65, device=device)
    expected = torch.zeros(65, 3)
    expected[[0, 31, 32, 63, 64], 1] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    expected[7, 2] = 6
    assert torch.equal(packed_linear(x, weight).cpu(), expected)


def test_a_fifth_of_the_bytes_of_fp16_at_density_0_1(pruned: Arrays) -> None:
    weight = PackedWeight.from_csr(pruned("csr", 512, 512, density=0.1, dtype=torch.float16), 512)
    stated = 1 / 8 + 1 / 16 + 2 * len(weight.data) / 512**2 + 4 / 64**2
    assert weight.nbytes == pytest.approx(512**2 * stated + 4)
    assert weight.nbytes < 512**2 * 2 / 4


def test_reference_equals_the_dense_product(pruned: Arrays, draw: Draw) -> None:
    arrays = pruned("csr", 66, 70, density=0.05)
    x = draw(3, 70).double()
    found = reference(x, PackedWeight.from_csr(arrays, 70)).cpu()
    torch.testing.assert_close(found, x.cpu() @ dense_of(arrays, 70).T, rtol=1e-12, atol=1e-12)


def test_strided_inputs_among_nan(pruned: Arrays, draw: Draw, near: Any, device: str) -> None:
    arrays = pruned("csr", 9, 32)
    weight = PackedWeight.from_csr(arrays, 32)
    sea = torch.full((9, 80), float("nan"), device=device)
    sea[1:8, 24:56] = draw(7, 32)
    inside = sea[1:8, 24:56]
    for x in (inside, inside[::2], draw(32, 7).T, draw(4, 32, 3).transpose(1, 2)):
        check(near, arrays, x, packed_linear(x, weight))
    assert packed_linear(inside[:0], weight).shape == (0, 9)


def test_results_are_bit_identical(pruned: Arrays, draw: Draw) -> None:
    weight = PackedWeight.from_csr(pruned("csr", 70, 300, dtype=torch.float16), 300)
    x = draw(3, 300).half()
    for tiles in (None, SPLIT):
        assert torch.equal(packed_linear(x, weight, tiles=tiles), packed_linear(x, weight, tiles=tiles))


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        ({"data": torch.zeros(4).double()}, UsageError, "data must be .*, not float64"),
        ({"data": torch.zeros(3)}, FormatError, "indices has 4 entries where data has 3"),
        ({"indices": torch.tensor([0, 1, 0, 2], dtype=torch.int32)}, FormatError, r"outside \[0, 2\)"),
        ({"indices": torch.tensor([0, 0, 0, 1], dtype=torch.int32)}, FormatError, "do not ascend"),
        ({"indptr": torch.tensor([0, 5, 4], dtype=torch.int32)}, FormatError, "indptr falls"),
    ],
)  # fmt: skip
def test_rejects_malformed_arrays(
    device: str, broken: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    sound = {
        "data": torch.zeros(4),
        "indices": torch.tensor([0, 1, 0, 1], dtype=torch.int32),
        "indptr": torch.tensor([0, 2, 4], dtype=torch.int32),
    }
    arrays = {name: array.to(device) for name, array in {**sound, **broken}.items()}
    with pytest.raises(error, match=message):
        PackedWeight.from_csr(arrays, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"x": torch.zeros(2, 32).half()},
            UsageError,
            "input must be float32 like the weight, not float16",
        ),
        (
            {"x": torch.zeros(2, 31)},
            FormatError,
            r"packed_linear: the input must be \[\.\.\., 32\], not \[2, 31\]",
        ),
        ({"bias": torch.zeros(31)}, FormatError, r"bias of packed_linear must be contiguous \[32\]"),
        ({"residual": torch.zeros(2, 31)}, FormatError, r"residual of packed_linear must be \[2, 32\]"),
        ({"precision": "fp8"}, UsageError, "unknown precision 'fp8'"),
    ],
)
def test_rejects_invalid_arguments(
    pruned: Arrays, device: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    weight = PackedWeight.from_csr(pruned("csr", 32, 32), 32)
    moved = {name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in arguments.items()}
    with pytest.raises(error, match=message):
        packed_linear(**{"x": torch.zeros(2, 32, device=device), "weight": weight, **moved})


@pytest.mark.parametrize("tokens", [1, 16, 33, 4096])
def test_tiles(tokens: int) -> None:
    for down, across in ((1, 1), (64, 64), (172, 64), (64, 172)):
        tiles = choose_tiles(tokens, down, across, Device())
        assert tiles.tokens in (16, 32, 64, 128)
        assert 1 <= tiles.splits <= max(1, across // 2)
        # Tiles of x and of the weight, in float32.
        assert (tiles.tokens + SIDE) * SIDE * 4 * tiles.stages <= Device().shared_memory
    assert np.prod([64, choose_tiles(16, 64, 64, Device()).splits]) >= 4 * 132
