"""BSR on tensor cores: `aerogel.kernels.triton.bsr_linear`."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from aerogel.kernels.triton.bsr_linear import BsrWeight, bsr_linear
from aerogel.torch.cuda.format import CudaFormat
from aerogel.torch.cuda.linear import TritonLinear
from aerogel.torch.cuda.ops import define
from aerogel.torch.loader import Matrix

__all__ = ["FORMAT", "OPERATOR"]

_SIDES = range(16, 129, 16)

OPERATOR = define("bsr", BsrWeight, bsr_linear)


class _Bsr(CudaFormat):
    blocked = True

    def unsupported_reason(self, mask: np.ndarray, block: tuple[int, int]) -> str | None:
        if not set(block) <= set(_SIDES):
            return (
                f"block {block[0]}x{block[1]}: sides must be multiples of 16 from 16 to 128, for tensor cores"
            )
        if mask.shape[0] % block[0] or mask.shape[1] % block[1]:
            return f"block {block[0]}x{block[1]} does not divide the matrix {mask.shape[0]}x{mask.shape[1]}"
        return None

    def max_density(self, block: tuple[int, int], dtype: torch.dtype, tokens: int) -> float:  # noqa: ARG002 - part of the interface
        # A step does `side` operations per byte that it reads from the L2 cache. This limits blocks of 64 to two fifths
        # of the dense rate, and blocks of 32 to one fifth.
        return min(0.4, min(block) / 160)

    def layer(
        self,
        name: str,  # noqa: ARG002 - part of the interface
        matrix: Matrix,
        block: tuple[int, int],
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> nn.Module:
        arrays = {key: array.to(device) for key, array in matrix.tensors("bsr", block).items()}
        arrays["data"] = arrays["data"].to(dtype)
        return TritonLinear("bsr", BsrWeight.from_arrays(arrays, matrix.mask.shape[1]), bias, block)


FORMAT = _Bsr()
