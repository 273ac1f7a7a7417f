"""One linear layer: y = x W^T + b."""

from __future__ import annotations

import torch

from aerogel.bench.gpu.case import Case
from aerogel.bench.gpu.clock import copies_for, timed
from aerogel.bench.gpu.kernel import gpu_kernels
from aerogel.bench.gpu.scenario import Rows, make_layer, output_error

__all__ = ["SCENARIO", "measure"]

# Rows of the result to compare with float64. Comparing all of up to 65,536 takes longer than the measurement.
_CHECKED_ROWS = 256


def measure(case: Case, device: torch.device) -> Rows:
    """Time each kernel on several sets of operands in turns, which together exceed the L2 cache."""
    layer = make_layer(case, device)
    dtype: torch.dtype = getattr(torch, case.dtype)
    x = torch.randn(case.tokens, case.shape[1], device=device, dtype=dtype)
    head = x[:_CHECKED_ROWS].double()
    expected = torch.nn.functional.linear(head, layer.weight.double(), layer.bias.double())
    rows: Rows = {}
    for name in case.kernels:
        kernel = gpu_kernels()[name]
        try:
            opened = kernel.open(layer)
            activations = (x.numel() + case.tokens * case.shape[0]) * x.itemsize
            copies = copies_for(opened.bytes + activations, device)
            ready = [opened] + [kernel.open(layer) for _ in range(copies - 1)]
            operands = [one.prepare(x.clone()) for one in ready]
            calls = [lambda one=one, y=y: one.call(y) for one, y in zip(ready, operands, strict=True)]
            if problem := output_error(calls[0]()[:_CHECKED_ROWS], expected, case.dtype):
                rows[name] = {"error": problem}
                continue
            time = timed(calls, device)
        except Exception as error:  # libraries raise many types
            rows[name] = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
            if "CUDA error" in str(error):
                raise
            continue
        operations = 2 * int(layer.mask.sum()) * case.tokens
        rows[name] = {
            "ms": time.ms, "low": time.low, "high": time.high, "graph": time.graph, "bytes": opened.bytes,
            "moved": opened.bytes + activations, "operations": operations, "copies": copies,
        }  # fmt: skip
    return rows


SCENARIO = measure
