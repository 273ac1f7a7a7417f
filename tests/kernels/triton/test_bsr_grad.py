from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from aerogel.errors import FormatError, UsageError
from aerogel.kernels.triton.bsr_grad import (
    GradIndex,
    bias_grad,
    choose_weight_tiles,
    input_grad,
    input_grad_reference,
    weight_grad,
    weight_grad_reference,
)
from aerogel.kernels.triton.bsr_linear import BsrWeight, Tiles, bsr_linear, reference
from aerogel.kernels.triton.launch import Device

Arrays = Callable[..., dict[str, torch.Tensor]]
Draw = Callable[..., torch.Tensor]

SPLIT = Tiles(tokens=16, step=1, splits=3, warps=4, stages=2)


def autograd(weight: BsrWeight, x: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """dx and ddata in float64, from autograd of a dense product."""
    r, c = weight.block
    data = weight.data.double().requires_grad_()
    x = x.double().requires_grad_()
    dense = torch.zeros(weight.out_features, weight.in_features, dtype=torch.float64, device=x.device)
    for i in range(len(weight.order)):
        for p in range(int(weight.indptr[i]), int(weight.indptr[i + 1])):
            j = int(weight.indices[p])
            dense[i * r : (i + 1) * r, j * c : (j + 1) * c] = data[p]
    dx, ddata = torch.autograd.grad(x @ dense.T + 0 * data.sum(), (x, data), grad.double())
    return dx, ddata


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("block", [(16, 16), (32, 16), (16, 32), (64, 64), (48, 16)])
@pytest.mark.parametrize("tiles", [None, SPLIT])
def test_gradients_equal_autograd(
    pruned: Arrays, draw: Draw, near: Any, block: tuple[int, int], dtype: torch.dtype, tiles: Tiles | None
) -> None:
    rows, cols, tokens = 3 * block[0], 4 * block[1], 53
    weight = BsrWeight.from_arrays(pruned("bsr", rows, cols, density=0.7, block=block, dtype=dtype), cols)
    index = GradIndex.from_weight(weight)
    x, grad = draw(tokens, cols, dtype=dtype), draw(tokens, rows, dtype=dtype)
    dx, ddata = autograd(weight, x, grad)
    big = BsrWeight(weight.data.abs(), weight.indices, weight.indptr, weight.order, cols, weight.longest)
    sums = autograd(big, x.abs(), grad.abs())
    near(input_grad(grad, weight, index, tiles=tiles), dx, sums[0], rows)
    near(weight_grad(grad, x, weight, index, tiles=tiles), ddata, sums[1], tokens)


def test_gradients_equal_finite_differences(pruned: Arrays, draw: Draw) -> None:
    # The layer is linear in x and in its blocks, so finite differences are exact for any step, up to rounding.
    weight = BsrWeight.from_arrays(pruned("bsr", 32, 48, block=(16, 16)), 48)
    index = GradIndex.from_weight(weight)
    x, grad, dx, ddata = draw(9, 48), draw(9, 32), draw(9, 48, seed=2), draw(*weight.data.shape, seed=3)
    ahead = bsr_linear(x + dx, weight) - bsr_linear(x - dx, weight)
    slope = (input_grad(grad, weight, index) * dx).sum()
    torch.testing.assert_close((grad * ahead).sum() / 2, slope, rtol=1e-4, atol=1e-3)

    def moved(step: float) -> torch.Tensor:
        data = weight.data + step * ddata
        return bsr_linear(x, BsrWeight(data, weight.indices, weight.indptr, weight.order, 48, weight.longest))

    slope = (weight_grad(grad, x, weight, index) * ddata).sum()
    torch.testing.assert_close((grad * (moved(1) - moved(-1))).sum() / 2, slope, rtol=1e-4, atol=1e-3)


def test_references_equal_autograd(pruned: Arrays, draw: Draw) -> None:
    weight = BsrWeight.from_arrays(pruned("bsr", 48, 64, block=(16, 32)), 64)
    x, grad = draw(2, 3, 64).double(), draw(2, 3, 48).double()
    dx, ddata = autograd(weight, x, grad)
    torch.testing.assert_close(input_grad_reference(grad, weight), dx, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weight_grad_reference(grad, x, weight), ddata, rtol=1e-12, atol=1e-12)
    doubled = BsrWeight(weight.data.double(), weight.indices, weight.indptr, weight.order, 64, weight.longest)
    torch.testing.assert_close((grad * reference(x, doubled)).sum(), (dx * x).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("tokens", [1, 15, 17, 64, 130])
def test_tokens(pruned: Arrays, draw: Draw, near: Any, tokens: int) -> None:
    weight = BsrWeight.from_arrays(pruned("bsr", 32, 32, block=(16, 16), density=1.0), 32)
    x, grad = draw(tokens, 32), draw(tokens, 32, seed=1)
    index = GradIndex.from_weight(weight)
    near(
        weight_grad(grad, x, weight, index),
        autograd(weight, x, grad)[1],
        autograd(weight, x.abs(), grad.abs())[1],
        tokens,
    )


def test_no_tokens_and_no_blocks(pruned: Arrays, draw: Draw) -> None:
    full = BsrWeight.from_arrays(pruned("bsr", 32, 32, block=(16, 16), density=1.0), 32)
    x = draw(0, 32)
    index = GradIndex.from_weight(full)
    assert (weight_grad(x, x, full, index) == 0).all()
    assert input_grad(x, full, index).shape == (0, 32)
    none = BsrWeight.from_arrays(pruned("bsr", 32, 32, block=(16, 16), density=0.0), 32)
    x, index = draw(5, 32), GradIndex.from_weight(none)
    assert weight_grad(x, x, none, index).shape == (0, 16, 16)
    assert (input_grad(x, none, index) == 0).all()


def test_strided_inputs_among_nan(pruned: Arrays, draw: Draw, near: Any, device: str) -> None:
    weight = BsrWeight.from_arrays(pruned("bsr", 32, 32, density=0.9, block=(16, 16)), 32)
    index = GradIndex.from_weight(weight)
    sea = torch.full((20, 80), float("nan"), device=device)
    sea[1:19, 24:56] = draw(18, 32)
    x, grad = sea[1:19, 24:56], draw(32, 18).T
    expected, sums = autograd(weight, x, grad), autograd(weight, x.abs(), grad.abs())
    near(weight_grad(grad, x, weight, index, tiles=SPLIT), expected[1], sums[1], 18)
    assert torch.isfinite(input_grad(x, weight, index)).all()


def test_results_are_bit_identical(pruned: Arrays, draw: Draw) -> None:
    weight = BsrWeight.from_arrays(pruned("bsr", 32, 64, block=(16, 16), dtype=torch.float16), 64)
    index = GradIndex.from_weight(weight)
    x, grad = draw(70, 64, dtype=torch.float16), draw(70, 32, dtype=torch.float16)
    for tiles in (None, SPLIT):
        assert torch.equal(
            input_grad(grad, weight, index, tiles=tiles), input_grad(grad, weight, index, tiles=tiles)
        )
        assert torch.equal(
            weight_grad(grad, x, weight, index, tiles=tiles), weight_grad(grad, x, weight, index, tiles=tiles)
        )


def test_bias(draw: Draw) -> None:
    grad = draw(2, 300, 5, dtype=torch.float16)
    found = bias_grad(grad, torch.float16)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), grad.double().sum((0, 1)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("grad", "x", "error", "message"),
    [
        (torch.zeros(3, 31), torch.zeros(3, 48), FormatError, r"input must be \[\.\.\., 32\]"),
        (torch.zeros(3, 32), torch.zeros(3, 47), FormatError, r"input must be \[\.\.\., 48\]"),
        (torch.zeros(3, 32), torch.zeros(4, 48), FormatError, "the gradient has 3 tokens and the input 4"),
        (
            torch.zeros(3, 32).half(),
            torch.zeros(3, 48),
            UsageError,
            "input must be float32 like the weight, not float16",
        ),
        (torch.zeros(3, 32), torch.zeros(3, 48).double(), UsageError, "not float64"),
    ],
)
def test_rejects_invalid_arguments(
    pruned: Arrays, device: str, grad: torch.Tensor, x: torch.Tensor, error: type[Exception], message: str
) -> None:
    weight = BsrWeight.from_arrays(pruned("bsr", 32, 48, block=(16, 16)), 48)
    with pytest.raises(error, match=message):
        weight_grad(grad.to(device), x.to(device), weight, GradIndex.from_weight(weight))


@pytest.mark.parametrize("tokens", [1, 512, 65_536])
@pytest.mark.parametrize("block", [(16, 16), (64, 64), (128, 128)])
def test_tiles_fit_the_device(tokens: int, block: tuple[int, int]) -> None:
    for device in (Device(), Device("small", 20, 101_376)):
        for blocks in (0, 3, 5000):
            tiles = choose_weight_tiles(tokens, blocks, block, 4, device)
            assert tiles.tokens * sum(block) * 4 * tiles.stages <= device.shared_memory
            assert tiles.splits == 1 or (blocks <= 3 and tokens > 4 * tiles.tokens)
