"""Unstructured weights, loaded packed and multiplied as dense tiles: `aerogel.kernels.triton.packed_linear`."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from aerogel.kernels.triton.packed_linear import PackedWeight, packed_linear
from aerogel.torch.cuda.format import CudaFormat
from aerogel.torch.cuda.linear import TritonLinear
from aerogel.torch.cuda.ops import define
from aerogel.torch.loader import Matrix

__all__ = ["FORMAT", "OPERATOR"]

OPERATOR = define("packed", PackedWeight, packed_linear)
# Up to this number of tokens, loading the weights limits a dense product, so fewer bytes are a gain.
_FEW_TOKENS = 32


class _Packed(CudaFormat):
    def unsupported_reason(self, mask: np.ndarray, block: tuple[int, int]) -> str | None:  # noqa: ARG002 - part of the interface
        return None

    def max_density(self, block: tuple[int, int], dtype: torch.dtype, tokens: int) -> float:  # noqa: ARG002 - part of the interface
        return 0.1 if tokens <= _FEW_TOKENS else 0.0

    def layer(
        self,
        name: str,  # noqa: ARG002 - part of the interface
        matrix: Matrix,
        block: tuple[int, int],
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> nn.Module:
        arrays = {key: array.to(device) for key, array in matrix.tensors("csr", block).items()}
        arrays["data"] = arrays["data"].to(dtype)
        return TritonLinear("packed", PackedWeight.from_csr(arrays, matrix.mask.shape[1]), bias)


FORMAT = _Packed()
