from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aerogel.torch.cuda import backend
from aerogel.torch.loader import Matrix

# Triton supports Linux only.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.fixture
def device() -> torch.device:
    """The device of the tests: the CPU, where Triton interprets kernels, or a GPU (``make test-gpu``)."""
    return torch.device(os.environ.get("AEROGEL_TEST_DEVICE", "cpu"))


@pytest.fixture(autouse=True)
def quiet_padding() -> Iterator[None]:
    """Silence numpy, which the interpreter uses: kernels multiply arbitrary values in padding, and never store them."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]) -> None:
    monkeypatch.setenv("AEROGEL_CACHE", os.fspath(tmp_path))


@pytest.fixture
def pair(pruned_linear: Callable[..., nn.Linear], device: torch.device) -> Callable[..., Any]:
    def make(format: str, dtype: torch.dtype = torch.float32, bias: bool = True) -> tuple[nn.Linear, Any]:
        linear = pruned_linear(48, 32, 0.4, (16, 16), bias).to(device, dtype).requires_grad_(False)
        chosen = backend.Gpu(device, format, (16, 16) if format == "bsr" else None, None, 1.0, dtype, 4096)
        weight = linear.weight.float().cpu().numpy()
        storage = chosen.choose("w", weight != 0)
        assert storage is not None
        return linear, chosen.layer("w", storage, Matrix(weight, weight != 0), linear.bias, dtype)

    return make
