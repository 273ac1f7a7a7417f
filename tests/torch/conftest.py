from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn


@pytest.fixture
def pruned_linear() -> Callable[..., nn.Linear]:
    """Factory of linear layers with exact zeros: ``pruned_linear(out, in, density=0.3, block=(1, 1), bias=True)``."""

    def make(
        rows: int, cols: int, density: float = 0.3, block: tuple[int, int] = (1, 1), bias: bool = True
    ) -> nn.Linear:
        draw = torch.Generator().manual_seed(rows * cols)
        linear = nn.Linear(cols, rows, bias=bias)
        kept = torch.rand(rows // block[0], cols // block[1], generator=draw) < density
        mask = kept.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
        with torch.no_grad():
            for parameter in linear.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
            linear.weight.mul_(mask)
        return linear

    return make


@pytest.fixture
def tiny_model(tiny_checkpoint: Callable[..., Path]) -> Callable[[], Any]:
    """Factory of one BERT of two layers whose twelve matrices are 80% zeros, in evaluation mode."""
    from aerogel.hf.load import load_model
    from aerogel.hf.quiet import quiet

    def make() -> Any:
        with quiet():
            return load_model(tiny_checkpoint(density=0.2), attention=None)

    return make
