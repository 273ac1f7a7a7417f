"""Time a whole model in three modes: eager, compiled, and compiled and recorded in a CUDA graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from aerogel.bench.gpu.clock import timed
from aerogel.bench.gpu.scenario import Rows, output_error

__all__ = ["MODES", "first_output", "modes"]

MODES = ("eager", "compile", "graph")


def first_output(model: Callable[..., Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the first output tensor of a transformers model."""
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
        name: first word of the rows' names; the mode follows.
        model: model on `device`, in evaluation mode.
        inputs: inputs of one inference.
        expected: its first output in float64; a mode with another output is reported as wrong and not timed.
        device: device of model and inputs.
        dtype: type of the model's values.
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
                # Rounding errors of twelve layers add up, so float16 gets the tolerance of one bfloat16 layer.
                if problem := output_error(run(), expected, dtype if dtype == "float32" else "bfloat16"):
                    rows[f"{name} {mode}"] = {"error": problem}
                    continue
                time = timed([run], device, graph)
            except Exception as error:  # the compiler raises many types
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
