"""One exported model or checkpoint in PyTorch on a GPU: dense and sparse, each in all modes."""

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
    """Rows "dense eager", "dense compile", "dense graph" and the same of "aerogel"; see `modes`.

    Args:
        path: a checkpoint directory or an exported .onnx file.
        batch: sequences.
        seq: tokens of each.
        dtype: "float16", "bfloat16" or "float32".
        seed: of the random token ids.
        device: "cuda" or one of several.
        format: as `aerogel.torch.sparsify` takes it.

    Raises:
        AerogelError: the model cannot be opened, or there is no such device.
    """
    place = torch.device(device)
    values: torch.dtype = getattr(torch, dtype)
    # No matrix stores less than nothing: all stay dense.
    exact = sparsify(path, "csr", max_density=0.0, device=place, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    folder = path if path.is_dir() else path.parent
    ids = torch.randint(vocabulary(folder / "model.onnx"), (batch, seq), generator=draw).to(place)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        expected = first_output(exact, inputs)
    del exact
    dense = sparsify(path, "csr", max_density=0.0, device=place, dtype=values)
    rows = modes("dense", dense, inputs, expected, place, dtype)
    del dense
    sparse = sparsify(path, format, device=place, dtype=values, tokens=batch * seq, shrink=True)
    return rows | modes("aerogel", sparse, inputs, expected, place, dtype)


def table(title: str, rows: Rows, baseline: str) -> str:
    """Rows in Markdown, speed-ups over the fastest of those that begin with `baseline`."""
    times = [row["ms"] for way, row in rows.items() if way.startswith(baseline) and "ms" in row]
    lines = [
        title,
        "",
        "| runtime | median ms | quartiles | speed-up | weights MB | peak MB |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for way, row in rows.items():
        if "ms" not in row:
            lines.append(f"| {way} | | {row['error']} | | | |")
            continue
        gain = f"{min(times) / row['ms']:.2f}" if times else "-"
        lines.append(
            f"| {way} | {row['ms']:.3f} | {row['low']:.3f}-{row['high']:.3f} | {gain} | {row['bytes'] / 1e6:.0f} "
            f"| {row['peak'] / 1e6:.0f} |"
        )
    return "\n".join(lines) + "\n"
