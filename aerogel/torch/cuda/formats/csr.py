"""CSR on CUDA cores: `aerogel.kernels.triton.csr_linear`."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from aerogel.kernels.triton.csr_linear import CsrWeight, csr_linear
from aerogel.torch.cuda.format import CudaFormat
from aerogel.torch.cuda.linear import TritonLinear
from aerogel.torch.cuda.ops import define
from aerogel.torch.loader import Matrix

__all__ = ["FORMAT", "OPERATOR"]

OPERATOR = define("csr", CsrWeight, csr_linear)


class _Csr(CudaFormat):
    def unsupported_reason(self, mask: np.ndarray, block: tuple[int, int]) -> str | None:  # noqa: ARG002 - part of the interface
        return None

    def max_density(self, block: tuple[int, int], dtype: torch.dtype, tokens: int) -> float:  # noqa: ARG002 - part of the interface
        # In half precision, tensor cores are sixteen times as fast as CUDA cores, and CSR loads each entry separately.
        return 0.05 if dtype == torch.float32 else 0.01

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
        return TritonLinear("csr", CsrWeight.from_arrays(arrays, matrix.mask.shape[1]), bias)


FORMAT = _Csr()
