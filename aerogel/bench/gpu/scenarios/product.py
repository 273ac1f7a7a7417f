"""One linear layer: y = x W^T + b."""

from __future__ import annotations

import torch

from aerogel.bench.gpu.case import Case
from aerogel.bench.gpu.clock import copies_for, timed
from aerogel.bench.gpu.kernel import GPU_KERNELS
from aerogel.bench.gpu.scenario import Rows, make_layer, wrong

__all__ = ["SCENARIO", "measure"]

# Rows of the result that are compared with float64: all of 65,536 would take longer than what is measured.
_CHECKED = 256


def measure(case: Case, device: torch.device) -> Rows:
    """Every way on operands that take turns, and that together do not fit the cache."""
    layer = make_layer(case, device)
    dtype: torch.dtype = getattr(torch, case.dtype)
    x = torch.randn(case.tokens, case.shape[1], device=device, dtype=dtype)
    head = x[:_CHECKED].double()
    expected = torch.nn.functional.linear(head, layer.weight.double(), layer.bias.double())
    rows: Rows = {}
    for name in case.ways:
        try:
            opened = GPU_KERNELS.get(name).open(layer)
            activations = (x.numel() + case.tokens * case.shape[0]) * x.itemsize
            copies = copies_for(opened.bytes + activations, device)
            ready = [opened] + [GPU_KERNELS.get(name).open(layer) for _ in range(copies - 1)]
            operands = [one.prepare(x.clone()) for one in ready]
            calls = [lambda one=one, y=y: one.call(y) for one, y in zip(ready, operands, strict=True)]
            if problem := wrong(calls[0]()[:_CHECKED], expected, case.dtype):
                rows[name] = {"error": problem}
                continue
            time = timed(calls, device)
        except Exception as error:  # what a library raises where it cannot
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
