"""Forward and backward pass of one linear layer: gradients of x, of the kept weights, and of the bias."""

from __future__ import annotations

import torch
from torch import nn

from aerogel.bench.gpu.case import Case
from aerogel.bench.gpu.clock import timed
from aerogel.bench.gpu.scenario import Rows, make_layer, output_error
from aerogel.torch.cuda.format import CUDA_FORMATS
from aerogel.torch.cuda.linear import TritonLinear
from aerogel.torch.cuda.training import BsrTrainable
from aerogel.torch.loader import Matrix

__all__ = ["SCENARIO", "measure"]


def measure(case: Case, device: torch.device) -> Rows:
    """Time the dense layer, whose whole weight gets a gradient, and the sparse layer."""
    layer = make_layer(case, device)
    dtype: torch.dtype = getattr(torch, case.dtype)
    dense = nn.Linear(case.shape[1], case.shape[0], device=device, dtype=dtype)
    with torch.no_grad():
        dense.weight.copy_(layer.weight)
        dense.bias.copy_(layer.bias)
    matrix = Matrix(layer.weight.float().cpu().numpy(), layer.mask)
    packed = CUDA_FORMATS.get("bsr").layer(
        "the weight", matrix, layer.block, layer.bias.clone(), dtype, device
    )
    assert isinstance(packed, TritonLinear)
    x = torch.randn(case.tokens, case.shape[1], device=device, dtype=dtype, requires_grad=True)
    grad = torch.randn(case.tokens, case.shape[0], device=device, dtype=dtype) / case.tokens**0.5
    expected = grad.double() @ layer.weight.double()
    rows: Rows = {}
    for name, module in {"dense": dense, "aerogel-bsr": BsrTrainable(packed)}.items():

        def step(module: nn.Module = module) -> tuple[torch.Tensor, ...]:
            return torch.autograd.grad(module(x), (x, *module.parameters()), grad)

        gradients = step()
        if problem := output_error(gradients[0], expected, case.dtype):
            rows[name] = {"error": f"gradient of x {problem}"}
            continue
        # Autograd is timed without a CUDA graph.
        time = timed([step], device, graph=False)
        weights = sum(p.numel() * p.itemsize for p in module.parameters())
        rows[name] = {
            "ms": time.ms, "low": time.low, "high": time.high, "graph": time.graph, "bytes": 2 * weights,
            "operations": 6 * int(layer.mask.sum()) * case.tokens,
        }  # fmt: skip
    return rows


SCENARIO = measure
