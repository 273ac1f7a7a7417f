from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aerogel.errors import UsageError
from aerogel.hf.load import load_model
from aerogel.hf.quiet import quiet
from aerogel.torch import conversion, densify, report
from aerogel.torch.cuda import backend as backends
from aerogel.torch.cuda import table
from aerogel.torch.cuda.backend import Gpu
from aerogel.torch.cuda.table import Measured

Checkpoints = Callable[..., Path]


@pytest.fixture
def sparsify(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`aerogel.torch.sparsify` on the test's device, a GPU or the interpreter."""

    def backend(target: torch.device, format: str | None, *rest: Any) -> Gpu:
        return Gpu(target, format or "auto", *rest)

    monkeypatch.setattr(conversion, "_backend", backend)
    return lambda model, *args, **named: conversion.sparsify(model, *args, device=device, **named)


def logits(model: nn.Module, device: torch.device) -> torch.Tensor:
    ids = torch.randint(5, 40, (2, 6), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        return model(input_ids=ids).logits.float()


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize(("format", "block"), [("bsr", (16, 16)), ("auto", (16, 32))])
def test_checkpoints(
    tiny_checkpoint: Checkpoints, sparsify: Callable[..., Any], device: torch.device, family: str, format: str,
    block: tuple[int, int],
) -> None:  # fmt: skip
    path = tiny_checkpoint(family, density=0.3, block=block)
    model = sparsify(path, format, max_density=0.9)
    assert {layer.format for layer in report(model).sparse} <= {"bsr", "csr", "packed"}
    assert len(report(model).sparse) == 12
    with quiet():
        expected = logits(load_model(path, attention=None).to(device), device)
    torch.testing.assert_close(logits(model, device), expected, rtol=1e-5, atol=1e-5)
    dense = densify(model)
    assert not report(dense).sparse
    torch.testing.assert_close(logits(dense, device), expected, rtol=1e-5, atol=1e-5)


def test_shrink_removes_dead_heads_and_neurons(
    tiny_checkpoint: Checkpoints, sparsify: Callable[..., Any], device: torch.device
) -> None:
    path = tiny_checkpoint(density=0.3, block=(16, 16))
    model = sparsify(path, "bsr", shrink=True, max_density=1.0)
    with quiet():
        expected = logits(load_model(path, attention=None).to(device), device)
    torch.testing.assert_close(logits(model, device), expected, rtol=1e-5, atol=1e-5)
    widths = [layer.shape[0] for layer in report(model).layers if "intermediate" in layer.name]
    assert min(widths) < 64
    assert all(width % 16 == 0 for width in widths)


def test_half_precision(
    tiny_checkpoint: Checkpoints, sparsify: Callable[..., Any], device: torch.device
) -> None:
    path = tiny_checkpoint(density=0.3, block=(16, 16))
    model = sparsify(path, "bsr", dtype=torch.float16, max_density=1.0)
    assert {value.dtype for value in model.parameters()} == {torch.float16}
    with quiet():
        expected = logits(load_model(path, attention=None).to(device), device)
    torch.testing.assert_close(logits(model, device), expected, rtol=2e-2, atol=2e-2)


def gpu(device: torch.device, format: str, dtype: torch.dtype = torch.float16, **named: Any) -> Gpu:
    block, own, max_density = (named.get(name) for name in ("block", "own", "max_density"))
    return Gpu(device, format, block, own, max_density, dtype, named.get("tokens", 4096))


def blocks(fraction: float, side: int = 32) -> np.ndarray:
    """A mask of 256 x 256 that keeps the first `fraction` of its blocks."""
    count = 256 // side
    kept = np.arange(count * count).reshape(count, count) < fraction * count * count
    return np.kron(kept, np.ones((side, side), bool)).astype(bool)


def test_selects_by_max_density_without_measurements(device: torch.device) -> None:
    chosen = gpu(device, "bsr", block=(32, 32)).choose
    assert chosen("w", blocks(0.15)) is not None
    assert chosen("w", blocks(0.3)) is None
    assert gpu(device, "bsr", block=(64, 64)).choose("w", blocks(0.3, 64)) is not None
    assert gpu(device, "csr").choose("w", blocks(0.05)) is None
    assert gpu(device, "csr", torch.float32).choose("w", blocks(0.04)) is not None
    assert gpu(device, "csr", max_density=0.9).choose("w", blocks(0.5)) is not None
    auto = gpu(device, "auto", own=(32, 32)).choose("w", blocks(0.1))
    assert (auto.format, auto.block) == ("bsr", (32, 32))


def test_selects_by_measurements(device: torch.device) -> None:
    def measured(format: str, block: tuple[int, int], ratio: float) -> list[Measured]:
        return [Measured(format, block, "float16", (256, 256), 4096, d, ratio) for d in (0.1, 0.9)]

    path = table.table_path(backends._name(device))
    table.save(path, "x", [*measured("bsr", (32, 32), 0.5), *measured("csr", (1, 1), 0.4)])
    assert gpu(device, "auto").choose("w", blocks(0.5)).format == "csr"
    assert gpu(device, "bsr").choose("w", blocks(0.8)) is not None
    table.save(path, "x", [*measured("bsr", (32, 32), 1.1), *measured("csr", (1, 1), 0.4)])
    assert gpu(device, "bsr").choose("w", blocks(0.1)) is None


def test_rejects_invalid_arguments(device: torch.device) -> None:
    with pytest.raises(UsageError, match=r"w: block 4x4: sides must be multiples of 16"):
        gpu(device, "bsr", block=(4, 4)).choose("w", blocks(0.1))
    with pytest.raises(UsageError, match=r"w: block 48x48 does not divide the matrix 256x256"):
        gpu(device, "bsr", block=(48, 48)).choose("w", blocks(0.1))
    with pytest.raises(UsageError, match="unknown format 'ell'; known: bsr, csr"):
        gpu(device, "ell")
    with pytest.raises(UsageError, match="does not apply to format 'csr'"):
        gpu(device, "csr", block=(32, 32))
    with pytest.raises(UsageError, match="tokens 0: must be at least 1"):
        gpu(device, "csr", tokens=0)


def test_two_four_depends_on_the_mask(device: torch.device) -> None:
    fits = np.tile([True, True, False, False], (64, 32))
    chosen = gpu(device, "2:4").choose("w", fits)
    assert chosen is not None
    assert chosen.format == "two-four"
    with pytest.raises(UsageError, match="64 groups of four weights in a row keep more than two"):
        gpu(device, "2:4").choose("w", fits | (np.arange(128) == 2))
    with pytest.raises(UsageError, match="a multiple of 32 rows and of 64 columns, not 16x128"):
        gpu(device, "2:4").choose("w", fits[:16])
    assert gpu(device, "2:4", tokens=8).choose("w", fits) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_machines_without_a_gpu(tiny_checkpoint: Checkpoints) -> None:
    for device in ("cuda", "cuda:3"):
        with pytest.raises(UsageError, match="device cuda: PyTorch finds no GPU"):
            conversion.sparsify(tiny_checkpoint(), device=device)
    with pytest.raises(UsageError, match="device meta: there are no kernels"):
        conversion.sparsify(tiny_checkpoint(), device="meta")
    with pytest.raises(UsageError, match="device 'gpu': unknown to PyTorch"):
        conversion.sparsify(tiny_checkpoint(), device="gpu")
