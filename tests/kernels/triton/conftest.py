from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aerogel.sparse.formats import FORMATS

# Triton supports Linux only.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.fixture(scope="session")
def device() -> str:
    """The device of the tests: the CPU, where Triton interprets kernels, or a GPU (``make test-gpu``)."""
    return os.environ.get("AEROGEL_TEST_DEVICE", "cpu")


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill every tensor that a wrapper allocates with NaN."""
    plain = torch.Tensor.new_empty

    def poisoned(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        made = plain(self, *args, **kwargs)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)


@pytest.fixture
def draw(device: str) -> Callable[..., torch.Tensor]:
    """Normal random numbers: ``draw(3, 4, dtype=torch.float16, seed=1)``."""

    def make(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
        values = np.random.default_rng([seed, *shape]).standard_normal(shape)
        return torch.from_numpy(values).to(device, dtype)

    return make


@pytest.fixture
def pruned(device: str) -> Callable[..., dict[str, torch.Tensor]]:
    """Arrays of a pruned matrix: ``pruned("bsr", 64, 48, density=0.4, block=(16, 16), dtype=torch.float16)``.

    Where there are two rows of blocks or more, the second has none.
    """

    def make(
        form: str,
        rows: int,
        cols: int,
        density: float = 0.4,
        block: tuple[int, int] = (1, 1),
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> dict[str, torch.Tensor]:
        random = np.random.default_rng([seed, rows, cols])
        kept = random.random((rows // block[0], cols // block[1])) < density
        if len(kept) > 1 and density < 1:
            kept[1] = False
        mask = np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
        weight = random.standard_normal((rows, cols)).astype(np.float32)
        arrays = FORMATS.get(form).encode(weight, mask, block)
        tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        return {**tensors, "data": tensors["data"].to(dtype)}

    return make


@pytest.fixture
def near() -> Callable[..., None]:
    """Compare a result with a float64 one: ``near(found, expected, magnitude, terms)``.

    The error of a sum of `terms` products in float32 is at most terms 2^-23 times the sum of their magnitudes, given as
    `magnitude`. An activation multiplies it by at most 1.13 and adds a few roundings. The result is then rounded to its
    dtype, by at most half an epsilon; Triton's interpreter truncates bfloat16, by at most one epsilon. This bounds each
    element. Over many elements, errors of rounding to nearest are uniform: their root mean square is below a third of
    an epsilon, 0.6 for truncation. Errors of sums grow like the root of the number of terms.
    """

    def check(found: torch.Tensor, expected: torch.Tensor, magnitude: torch.Tensor, terms: int) -> None:
        epsilon = torch.finfo(found.dtype).eps
        found, expected, magnitude = found.double().cpu(), expected.double().cpu(), magnitude.double().cpu()
        assert found.shape == expected.shape
        assert torch.isfinite(found).all()
        error = (found - expected).abs()
        sums = (1.13 * terms + 8) * 2.0**-23 * magnitude
        rounding = epsilon * expected.abs() + torch.finfo(torch.float16).tiny * epsilon
        worst = (error / (sums + rounding)).max().item()
        assert worst <= 1, f"an element is off by {worst:.2f} times its bound"
        factor = 0.6 if epsilon == torch.finfo(torch.bfloat16).eps else 0.33
        allowed = factor * epsilon * expected.square().mean().sqrt()
        allowed += (terms**0.5 + 3) * 2.0**-24 * magnitude.square().mean().sqrt()
        spread = error.square().mean().sqrt()
        assert spread <= allowed, f"root mean square error {spread:.3g} exceeds {allowed:.3g}"

    return check
