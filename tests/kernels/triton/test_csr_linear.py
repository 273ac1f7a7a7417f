from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aerogel.errors import FormatError, UsageError
from aerogel.kernels.triton.csr_linear import CsrWeight, Tiles, choose_tiles, csr_linear, reference
from aerogel.kernels.triton.launch import Device

Arrays = Callable[..., dict[str, torch.Tensor]]
Draw = Callable[..., torch.Tensor]


def dense_of(arrays: dict[str, torch.Tensor], cols: int) -> torch.Tensor:
    """The matrix in float64, by a loop independent of the code under test."""
    data, indptr = arrays["data"].cpu(), arrays["indptr"].cpu()
    indices = arrays["indices"].cpu().numpy()
    dense = torch.zeros(len(indptr) - 1, cols, dtype=torch.float64)
    for n in range(len(indptr) - 1):
        for p in range(int(indptr[n]), int(indptr[n + 1])):
            dense[n, int(indices[p])] = data[p]
    return dense


def check(near: Any, arrays: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> None:
    dense, wide = dense_of(arrays, x.shape[-1]), x.double().cpu()
    near(y, wide @ dense.T, wide.abs() @ dense.abs().T, x.shape[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tokens", [1, 2, 3, 16, 17, 33, 130])
def test_tokens_and_dtypes(pruned: Arrays, draw: Draw, near: Any, tokens: int, dtype: torch.dtype) -> None:
    arrays = pruned("csr", 21, 35, dtype=dtype, density=0.3)
    x = draw(tokens, 35, dtype=dtype)
    check(near, arrays, x, csr_linear(x, CsrWeight.from_arrays(arrays, 35)))


@pytest.mark.parametrize("indices", [torch.uint16, torch.int32])
def test_dtypes_of_indices(pruned: Arrays, draw: Draw, near: Any, indices: torch.dtype) -> None:
    arrays = pruned("csr", 9, 35)
    arrays["indices"] = arrays["indices"].to(indices)
    weight, x = CsrWeight.from_arrays(arrays, 35), draw(20, 35)
    assert weight.indices.dtype == indices
    check(near, arrays, x, csr_linear(x, weight))


@pytest.mark.parametrize("tiles", [Tiles(1, 1, 32, 2), Tiles(4, 8, 16, 3), Tiles(32, 2, 16, 1)])
def test_tiles(pruned: Arrays, draw: Draw, near: Any, tiles: Tiles) -> None:
    arrays = pruned("csr", 21, 35)
    weight = CsrWeight.from_arrays(arrays, 35)
    for tokens in (5, 37):
        check(near, arrays, draw(tokens, 35), csr_linear(draw(tokens, 35), weight, tiles=tiles))


@pytest.mark.parametrize("density", [0.0, 1.0])
@pytest.mark.parametrize("tokens", [1, 20])
def test_density_zero_and_one(pruned: Arrays, draw: Draw, near: Any, density: float, tokens: int) -> None:
    arrays = pruned("csr", 9, 17, density=density)
    x = draw(tokens, 17)
    check(near, arrays, x, csr_linear(x, CsrWeight.from_arrays(arrays, 17)))


@pytest.mark.parametrize("tokens", [3, 18])
@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_epilogue(
    pruned: Arrays, draw: Draw, near: Any, activation: str, dtype: torch.dtype, tokens: int
) -> None:
    arrays = pruned("csr", 21, 35, dtype=dtype)
    weight = CsrWeight.from_arrays(arrays, 35)
    x, bias, residual = draw(tokens, 35, dtype=dtype), draw(21), draw(tokens, 21, dtype=dtype, seed=1)
    y = csr_linear(x, weight, bias, activation, residual)
    dense, wide = dense_of(arrays, 35), x.double().cpu()
    expected = wide @ dense.T + bias.double().cpu()
    if activation != "none":
        approximate = "tanh" if activation == "gelu_tanh" else "none"
        expected = torch.nn.functional.gelu(expected, approximate=approximate)
    magnitude = wide.abs() @ dense.abs().T + bias.double().cpu().abs() + residual.double().cpu().abs()
    near(y, expected + residual.double().cpu(), magnitude, 36)


def test_reference_equals_the_dense_product(pruned: Arrays, draw: Draw) -> None:
    arrays = pruned("csr", 21, 35)
    x = draw(3, 35).double()
    found = reference(x, CsrWeight.from_arrays(arrays, 35)).cpu()
    torch.testing.assert_close(found, x.cpu() @ dense_of(arrays, 35).T, rtol=1e-12, atol=1e-12)


def test_strided_inputs_among_nan(pruned: Arrays, draw: Draw, near: Any, device: str) -> None:
    arrays = pruned("csr", 9, 32)
    weight = CsrWeight.from_arrays(arrays, 32)
    sea = torch.full((9, 80), float("nan"), device=device)
    sea[1:8, 24:56] = draw(7, 32)
    inside = sea[1:8, 24:56]
    across = torch.full((40, 60), float("nan"), device=device)
    across[4:36, 10:30] = draw(32, 20)
    # The last two are already feature-major, the second among NaN.
    for x in (inside, inside[::2], draw(4, 32, 3).transpose(1, 2), draw(32, 7).T, across[4:36, 10:30].T):
        check(near, arrays, x, csr_linear(x, weight))
    assert csr_linear(inside[:0], weight).shape == (0, 9)


def test_feature_major_input_is_not_copied(
    pruned: Arrays, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, x = CsrWeight.from_arrays(pruned("csr", 9, 32), 32), draw(32, 40).T
    expected = csr_linear(x, weight)

    def refuse(_: torch.Tensor, __: torch.Tensor) -> torch.Tensor:
        raise AssertionError("copied")

    monkeypatch.setattr(torch.Tensor, "copy_", refuse)
    assert torch.equal(csr_linear(x, weight), expected)


def test_nan_stays_in_its_token(pruned: Arrays, draw: Draw) -> None:
    weight = CsrWeight.from_arrays(pruned("csr", 9, 32), 32)
    for tokens in (4, 40):
        x = draw(tokens, 32)
        expected = csr_linear(x, weight)
        x[1] = float("nan")
        found = csr_linear(x, weight)
        assert torch.equal(found[2:], expected[2:])
        assert torch.equal(found[0], expected[0])
        # The second row of the weight is empty, so x does not affect it.
        assert found[1, 1] == 0


def test_results_are_bit_identical(pruned: Arrays, draw: Draw) -> None:
    weight = CsrWeight.from_arrays(pruned("csr", 21, 64, dtype=torch.float16), 64)
    for tokens in (2, 33):
        x = draw(tokens, 64, dtype=torch.float16)
        assert torch.equal(csr_linear(x, weight), csr_linear(x, weight))


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        ({"data": torch.zeros(4).double()}, UsageError, "data must be .*, not float64"),
        ({"data": torch.zeros(3)}, FormatError, "indices has 4 entries where data has 3"),
        ({"data": torch.zeros(4, 1, 1)}, FormatError, "data must have one dimension"),
        ({"indices": torch.tensor([0, 1, 0, 2], dtype=torch.int32)}, FormatError, r"outside \[0, 2\)"),
        ({"indices": torch.tensor([1, 0, 0, 1], dtype=torch.int32)}, FormatError, "do not ascend"),
        ({"indices": torch.tensor([0, 1, 0, 1])}, FormatError, "indices must be one-dimensional uint16 or int32"),
        ({"indptr": torch.tensor([0, 5, 4], dtype=torch.int32)}, FormatError, "indptr falls"),
        ({"indptr": torch.tensor([0, 2, 4])}, FormatError, "indptr must be int32"),
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
        CsrWeight.from_arrays(arrays, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"x": torch.zeros(2, 32).double()},
            UsageError,
            "input must be float32 like the weight, not float64",
        ),
        (
            {"x": torch.zeros(2, 31)},
            FormatError,
            r"csr_linear: the input must be \[\.\.\., 32\], not \[2, 31\]",
        ),
        ({"bias": torch.zeros(31)}, FormatError, r"bias of csr_linear must be contiguous \[32\]"),
        ({"residual": torch.zeros(2, 31)}, FormatError, r"residual of csr_linear must be \[2, 32\]"),
        ({"activation": "relu"}, UsageError, "unknown activation 'relu'"),
    ],
)
def test_rejects_invalid_arguments(
    pruned: Arrays, device: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    weight = CsrWeight.from_arrays(pruned("csr", 32, 32), 32)
    moved = {name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in arguments.items()}
    with pytest.raises(error, match=message):
        csr_linear(**{"x": torch.zeros(2, 32, device=device), "weight": weight, **moved})


@pytest.mark.parametrize("tokens", [1, 7, 16, 17, 4096, 65_536])
@pytest.mark.parametrize("mean", [0.0, 1.0, 77.0, 4096.0])
def test_tiles_are_powers_of_two_of_bounded_size(tokens: int, mean: float) -> None:
    for rows in (0, 1, 3072):
        tiles = choose_tiles(tokens, rows, mean, 2, Device())
        sides = np.array([tiles.rows, tiles.entries, tiles.tokens])
        assert (sides > 0).all()
        assert (sides & (sides - 1) == 0).all()
        assert sides.prod() <= 2048
        assert 1 <= tiles.parts <= max(1, rows)


def test_one_token_has_many_entries_per_step() -> None:
    assert choose_tiles(1, 768, 77, 4, Device()) == Tiles(1, 64, 1, 768, 1)
    assert choose_tiles(1, 65_536, 77, 4, Device()).rows == 16
    assert choose_tiles(4096, 768, 77, 4, Device()).tokens == 32
