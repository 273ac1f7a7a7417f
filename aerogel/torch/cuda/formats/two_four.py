"""2:4 sparsity on sparse tensor cores, through PyTorch's semi-structured tensors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.sparse import to_sparse_semi_structured

from aerogel.errors import UsageError
from aerogel.torch.cuda.format import CudaFormat
from aerogel.torch.loader import Matrix

__all__ = ["FORMAT", "TwoFourLinear"]

_DTYPES = (torch.float16, torch.bfloat16)


class TwoFourLinear(nn.Linear):
    """An ``nn.Linear`` whose weight is a ``torch.sparse.SparseSemiStructuredTensor``."""

    format = "2:4"
    block = (1, 1)

    def stored_tensors(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors that store the weight, values first; in some PyTorch versions one tensor contains all."""
        weight: torch.Tensor = self.weight.detach()
        return tuple(
            t for t in (getattr(weight, "packed", None), getattr(weight, "meta", None)) if t is not None
        )

    def to_linear(self) -> nn.Linear:
        """Return the equivalent dense layer."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        weight: torch.Tensor = self.weight.detach()
        linear.weight = nn.Parameter(weight.to_dense())
        linear.bias = self.bias
        return linear.train(self.training)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Save the dense weight, as other sparse layers do."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        weight: torch.Tensor = self.weight.detach()
        destination[prefix + "weight"] = weight.to_dense()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Refuse to load a weight, because its mask may differ.

        Raises:
            UsageError: the state dict contains the weight.
        """
        if prefix + "weight" in state_dict:
            raise UsageError(
                f"{prefix}weight: a 2:4 layer cannot load weights; load them into the dense model, then sparsify it"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _TwoFour(CudaFormat):
    # Half of the weights are stored at any density, so other formats gain more from a mask that suits 2:4.
    automatic = False

    def unsupported_reason(self, mask: np.ndarray, block: tuple[int, int]) -> str | None:  # noqa: ARG002 - part of the interface
        rows, cols = mask.shape
        if rows % 32 or cols % 64:
            return f"2:4 needs a multiple of 32 rows and of 64 columns, not {rows}x{cols}"
        crowded = int((mask.reshape(rows, cols // 4, 4).sum(2) > 2).sum())
        if crowded:
            return f"{crowded} groups of four weights in a row keep more than two; prune the matrix 2:4"
        return None

    def max_density(self, block: tuple[int, int], dtype: torch.dtype, tokens: int) -> float:  # noqa: ARG002 - part of the interface
        return 0.5 if tokens >= 256 else 0.0

    def stored(self, name: str, mask: np.ndarray, block: tuple[int, int]) -> float:  # noqa: ARG002 - part of the interface
        """Return one half, for every mask."""
        return 0.5

    def layer(
        self,
        name: str,
        matrix: Matrix,
        block: tuple[int, int],  # noqa: ARG002 - part of the interface
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> nn.Module:
        if dtype not in _DTYPES:
            raise UsageError(f"{name}: 2:4 needs float16 or bfloat16; pass dtype=torch.float16")
        layer = TwoFourLinear(matrix.mask.shape[1], matrix.mask.shape[0], bias is not None, device="meta")
        dense = torch.from_numpy(np.where(matrix.mask, matrix.weight, 0)).to(device, dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that semi-structured tensors are a prototype
            layer.weight = nn.Parameter(to_sparse_semi_structured(dense), requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias, requires_grad=False)
        return layer


FORMAT = _TwoFour()
