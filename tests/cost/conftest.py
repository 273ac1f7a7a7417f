from __future__ import annotations

import pytest

from aerogel.cost import grid, measure, non_gemm
from aerogel.cost.model import EncoderShape


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure only a few tiny matrices, once each. The times mean nothing, but the code path is the real one."""
    monkeypatch.setattr(
        grid, "_SAMPLES", (((32, 16), 0.1, False), ((16, 32), 0.5, True), ((32, 32), 1.0, False))
    )
    monkeypatch.setattr(grid, "_DENSE", ((16, 16), (32, 16)))
    monkeypatch.setattr(grid, "_MAX_COPIES", 3)
    monkeypatch.setattr(grid, "_MAX_DENSE_COPIES", 8)
    monkeypatch.setattr(non_gemm, "_SHAPES", (EncoderShape(1, 16, 32, 2),))
    monkeypatch.setattr(non_gemm, "_SIZES", ((1, 4), (2, 8)))
    monkeypatch.setattr(measure, "DRAM_BYTES", 4096)
    monkeypatch.setattr(measure, "_MIN_RUNS", 1)
    monkeypatch.setattr(measure, "_MAX_RUNS", 1)
