"""A whole model timed in three ways: eager, compiled, and compiled and recorded in a CUDA graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from aerogel.bench.gpu.clock import timed
from aerogel.bench.gpu.scenario import Rows, wrong

__all__ = ["MODES", "first_output", "modes"]

MODES = ("eager", "compile", "graph")


def first_output(model: Callable[..., Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The first tensor that a model of transformers gives."""
    found: torch.Tensor = model(**inputs)[0]
    return found


def modes(
    name: str,
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    expected: torch.Tensor,
    device: torch.device,
    dtype: str,
) -> Rows:
    """Time `model` in all `MODES`.

    Args:
        name: what rows are called, before the mode.
        model: on `device`, in evaluation mode.
        inputs: of one inference.
        expected: its first output in float64; what differs from it is reported as wrong, without a time.
        device: where all of it is.
        dtype: of the model's values.
    """
    on_gpu = device.type == "cuda"
    size = sum(tensor.numel() * tensor.itemsize for tensor in [*model.parameters(), *model.buffers()])
    compiled = torch.compile(model, fullgraph=True, backend="inductor" if on_gpu else "eager")
    rows: Rows = {}
    with torch.inference_mode():
        for mode in MODES:
            run = functools.partial(first_output, model if mode == "eager" else compiled, inputs)
            graph = mode == "graph"
            try:
                # Roundings of twelve layers add up, so that half precision is held to what bfloat16 reaches in one.
                if problem := wrong(run(), expected, dtype if dtype == "float32" else "bfloat16"):
                    rows[f"{name} {mode}"] = {"error": problem}
                    continue
                time = timed([run], device, graph)
            except Exception as error:  # of the compiler
                rows[f"{name} {mode}"] = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
                continue
            if graph and on_gpu and not time.graph:
                rows[f"{name} {mode}"] = {"error": "could not be recorded in a CUDA graph"}
                continue
            rows[f"{name} {mode}"] = {
                "ms": time.ms, "low": time.low, "high": time.high, "graph": time.graph, "bytes": size,
                "peak": torch.cuda.max_memory_allocated(device) if on_gpu else 0,
            }  # fmt: skip
    return rows
