from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from aerogel.torch.gpu import backend
from aerogel.torch.stored import Matrix

# Triton is made for Linux only.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where models go: a GPU (``make test-gpu``), or the CPU taken for one, where kernels are interpreted."""
    place = torch.device(os.environ.get("AEROGEL_TEST_DEVICE", "cpu"))
    if place.type == "cpu":
        monkeypatch.setattr(backend, "_check_device", lambda _: None)
        monkeypatch.setattr(backend, "_name", lambda _: "Interpreter")
    return place


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]) -> None:
    monkeypatch.setenv("AEROGEL_CACHE", os.fspath(tmp_path))


@pytest.fixture
def pair(pruned_linear: Callable[..., nn.Linear], device: torch.device) -> Callable[..., Any]:
    def make(format: str, dtype: torch.dtype = torch.float32, bias: bool = True) -> tuple[nn.Linear, Any]:
        linear = pruned_linear(48, 32, 0.4, (16, 16), bias).to(device, dtype).requires_grad_(False)
        chosen = backend.Gpu(device, format, (16, 16) if format == "bsr" else None, None, 1.0, dtype, 4096)
        weight = linear.weight.float().cpu().numpy()
        way = chosen.choose("w", weight != 0)
        assert way is not None
        return linear, chosen.layer("w", way, Matrix(weight, weight != 0), linear.bias, dtype)

    return make
