"""Measure one model or checkpoint in PyTorch on a GPU: dense and sparse, each in all modes."""

from __future__ import annotations

from pathlib import Path

import torch

from aerogel.bench.gpu.modes import first_output, modes
from aerogel.bench.gpu.scenario import Rows
from aerogel.bench.inputs import vocabulary
from aerogel.torch.conversion import sparsify

__all__ = ["measure_model", "table"]


def measure_model(
    path: Path, batch: int, seq: int, dtype: str, seed: int, device: str = "cuda", format: str = "auto"
) -> Rows:
    """Return rows "dense eager", "dense compile", "dense graph", and those of "aerogel"; see `modes`.

    Args:
        path: a checkpoint directory or an exported .onnx file.
        batch: sequences per inference.
        seq: tokens per sequence.
        dtype: "float16", "bfloat16" or "float32".
        seed: seed of the random token ids.
        device: PyTorch's name of the device, such as "cuda" or "cuda:1".
        format: storage format, as for `aerogel.torch.sparsify`.

    Raises:
        AerogelError: the model cannot be loaded, or there is no such device.
    """
    target = torch.device(device)
    values: torch.dtype = getattr(torch, dtype)
    # With a maximum density of 0, all matrices stay dense.
    exact = sparsify(path, "csr", max_density=0.0, device=target, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    folder = path if path.is_dir() else path.parent
    ids = torch.randint(vocabulary(folder / "model.onnx"), (batch, seq), generator=draw).to(target)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        expected = first_output(exact, inputs)
    del exact
    dense = sparsify(path, "csr", max_density=0.0, device=target, dtype=values)
    rows = modes("dense", dense, inputs, expected, target, dtype)
    del dense
    sparse = sparsify(path, format, device=target, dtype=values, tokens=batch * seq, shrink=True)
    return rows | modes("aerogel", sparse, inputs, expected, target, dtype)


def table(title: str, rows: Rows, baseline: str) -> str:
    """Return a Markdown table, with speed-ups over the fastest row whose name starts with `baseline`."""
    times = [row["ms"] for name, row in rows.items() if name.startswith(baseline) and "ms" in row]
    lines = [
        title,
        "",
        "| mode | median ms | quartiles | speed-up | weights MB | peak MB |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        if "ms" not in row:
            lines.append(f"| {name} | | {row['error']} | | | |")
            continue
        gain = f"{min(times) / row['ms']:.2f}" if times else "-"
        lines.append(
            f"| {name} | {row['ms']:.3f} | {row['low']:.3f}-{row['high']:.3f} | {gain} | {row['bytes'] / 1e6:.0f} "
            f"| {row['peak'] / 1e6:.0f} |"
        )
    return "\n".join(lines) + "\n"
