"""A whole encoder, BERT-base: eager, compiled, and compiled and recorded in a CUDA graph."""

from __future__ import annotations

import copy

import torch
from torch import nn

from aerogel.bench.gpu.case import Case
from aerogel.bench.gpu.modes import modes
from aerogel.bench.gpu.scenario import Rows
from aerogel.errors import require
from aerogel.hf.names import repeated
from aerogel.sparse.masks import top_masks
from aerogel.synth import archs
from aerogel.torch.conversion import sparsify_live
from aerogel.torch.cuda.backend import Gpu

__all__ = ["SCENARIO", "measure"]

_SEQUENCE = 128


def measure(case: Case, device: torch.device) -> Rows:
    """Time the dense and the sparse encoder in all modes, on sequences of 128 tokens, `case.tokens` in total."""
    on_gpu = device.type == "cuda"
    dtype: torch.dtype = getattr(torch, case.dtype)
    fields = archs.load("bert-base" if on_gpu else "bert-tiny")
    transformers = require("transformers", "train")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    dense = transformers.AutoModel.from_config(config, trust_remote_code=False).eval().requires_grad_(False)
    linears = {
        f"{name}.weight": module
        for name, module in dense.named_modules()
        if isinstance(module, nn.Linear) and repeated(dense, name)
    }
    draw = torch.Generator().manual_seed(0)
    scores = {
        name: torch.rand(linear.weight.shape, generator=draw).numpy() for name, linear in linears.items()
    }
    masks = top_masks(scores, case.density, case.block)
    for name, linear in linears.items():
        linear.weight.mul_(torch.from_numpy(masks[name]))
    sequence = _SEQUENCE if on_gpu else 8
    ids = torch.randint(1000, 20000, (max(1, case.tokens // sequence), sequence), generator=draw).to(device)
    with torch.inference_mode():
        exact = copy.deepcopy(dense).to(device, torch.float64 if on_gpu else torch.float32)
        expected = exact(input_ids=ids).last_hidden_state.double()
    del exact
    backend = Gpu(device, "bsr", case.block, None, None if on_gpu else 1.0, dtype, case.tokens)
    sparse = sparsify_live(copy.deepcopy(dense), masks, backend, dtype, shrink=True)
    rows: Rows = {}
    for name, model in {"dense": dense.to(device, dtype), "aerogel": sparse}.items():
        rows |= modes(name, model, {"input_ids": ids}, expected, device, case.dtype)
    return rows


SCENARIO = measure
