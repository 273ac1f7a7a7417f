"""The registry of scenarios. Each module of ``scenarios/`` defines ``SCENARIO``, a function of a case and a device.

It returns a row for each kernel, by name: ``{"ms", "low", "high", "graph", "bytes"}``, or ``{"error"}`` with the reason
if the library failed or its result was wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from aerogel.bench.gpu.case import Case
from aerogel.bench.gpu.kernel import Layer
from aerogel.registry import Registry
from aerogel.sparse.masks import top_masks

__all__ = ["SCENARIOS", "Rows", "make_layer", "output_error"]

Rows = dict[str, dict[str, Any]]
SCENARIOS: Registry[Callable[[Case, torch.device], Rows]] = Registry(
    "scenario", "aerogel.bench.gpu.scenarios", "SCENARIO"
)

# Room for rounding of the result, and of sums that a library keeps in half precision. A wrong kernel is off by 1.
_TOLERANCES = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 2e-3}


def make_layer(case: Case, device: torch.device) -> Layer:
    """Return a random layer for the case, the same in every call."""
    random = np.random.default_rng(0)
    rows, cols = case.shape
    if case.nm:
        groups = random.random((rows, cols // 4, 4))
        mask = (groups.argsort(2).argsort(2) >= 2).reshape(rows, cols)
    else:
        scores = random.random((rows, cols), np.float32)
        mask = top_masks({"w": scores}, case.density, case.block)["w"]
    dtype: torch.dtype = getattr(torch, case.dtype)
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, cols, generator=draw) / (case.density * cols) ** 0.5
    weight = (weight * torch.from_numpy(mask)).to(device, dtype)
    return Layer(weight, mask, case.block, torch.randn(rows, generator=draw).to(device, dtype))


def output_error(found: torch.Tensor, expected: torch.Tensor, dtype: str) -> str | None:
    """Compare a result with one in float64; return None if they agree, else the difference in words."""
    if found.shape != expected.shape:
        return f"wrong: shape {list(found.shape)}, not {list(expected.shape)}"
    error = float((found.double() - expected).abs().max() / expected.abs().max())
    return None if error <= _TOLERANCES[dtype] else f"wrong: relative error {error:.1e}"
