"""Measure the peak rates of the device: bytes copied, and products of large dense matrices."""

from __future__ import annotations

import functools

import torch

from aerogel.bench.gpu.clock import timed

__all__ = ["roofline"]

_DTYPES = ("float16", "bfloat16", "float32")


def roofline(device: torch.device) -> dict[str, float]:
    """Return ``copy``: bytes read and written per second; ``matmul float16`` and so on: operations per second."""
    on_gpu = device.type == "cuda"
    source = torch.empty(1 << (30 if on_gpu else 20), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    time = timed([lambda: target.copy_(source)], device)
    found = {"copy": 2 * source.numel() / time.ms * 1e3}
    side = 8192 if on_gpu else 64
    for name in _DTYPES:
        a = torch.randn(side, side, device=device).to(getattr(torch, name))
        time = timed([functools.partial(torch.mm, a, a)], device)
        found[f"matmul {name}"] = 2 * side**3 / time.ms * 1e3
    return found
