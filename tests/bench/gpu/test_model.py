from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aerogel.bench.gpu.model import measure_model, table
from aerogel.cli import main


def test_dense_and_sparse_in_every_mode(tiny_checkpoint: Callable[..., Path]) -> None:
    """On the CPU, without CUDA graphs and with interpreted kernels."""
    path = tiny_checkpoint(density=0.3, block=(16, 16))
    try:
        rows = measure_model(path, 2, 4, "float32", 0, device="cpu")
    finally:
        torch.compiler.reset()
    assert list(rows) == [
        f"{name} {mode}" for name in ("dense", "aerogel") for mode in ("eager", "compile", "graph")
    ]
    assert all("ms" in row for row in rows.values()), rows
    assert rows["aerogel eager"]["bytes"] < rows["dense eager"]["bytes"]


def test_speed_ups_are_over_the_fastest_dense_mode() -> None:
    row = {"low": 1.0, "high": 1.0, "bytes": 2e6, "peak": 3e6}
    rows = {
        "dense eager": row | {"ms": 4.0},
        "dense graph": row | {"ms": 2.0},
        "aerogel graph": row | {"ms": 1.0},
    }
    lines = table("a title", rows | {"aerogel eager": {"error": "words"}}, "dense").splitlines()
    assert lines[0] == "a title"
    assert lines[-2:] == [
        "| aerogel graph | 1.000 | 1.000-1.000 | 2.00 | 2 | 3 |", "| aerogel eager | | words | | | |",
    ]  # fmt: skip


def test_the_command_line(
    tiny_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = str(tiny_checkpoint())
    assert main(["bench", model, "--device", "cuda", "--plot", str(tmp_path / "a.png")]) == 2
    assert "--plot has no effect with --device cuda" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_command_line_without_a_gpu(
    tiny_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(tiny_checkpoint()), "--device", "cuda"]) == 2
    assert "device cuda: PyTorch finds no GPU" in capsys.readouterr().err
