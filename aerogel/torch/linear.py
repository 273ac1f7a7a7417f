"""A linear layer with a packed weight, for the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel.errors import FormatError, UsageError
from aerogel.sparse.formats import FORMATS
from aerogel.torch.dense import to_dense
from aerogel.torch.dense_state import DenseState, as_numpy
from aerogel.torch.linears import current
from aerogel.torch.ops import bsr_linear, csr_linear
from aerogel.torch.packed import FLOATS

__all__ = ["SparseLinear"]


class SparseLinear(DenseState):
    """``y = x W^T + b`` with W in CSR or BSR, for inference on the CPU.

    The arrays are buffers: they are copied and moved with the model, and optimizers ignore them. A state dict contains
    the dense ``weight`` instead, see `DenseState`. Gradients flow to x, not to the weights.

    Args:
        arrays: CSR data ``[entries]`` or BSR data ``[blocks, r, c]``; indices, uint16 or int32; indptr, int32.
        bias: ``[out_features]``, or None.
        in_features: columns of W.

    Attributes:
        in_features: columns of W.
        out_features: rows of W.

    Raises:
        FormatError: the arrays are malformed, or the bias does not fit them.
    """

    data: torch.Tensor
    indices: torch.Tensor
    indptr: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray | torch.Tensor],
        bias: np.ndarray | torch.Tensor | None,
        in_features: int,
    ) -> None:
        super().__init__()
        for name in ("data", "indices", "indptr"):
            self.register_buffer(name, torch.as_tensor(arrays[name]))
        self.register_buffer("bias", None if bias is None else torch.as_tensor(bias))
        self.in_features = in_features
        self.out_features = (len(self.indptr) - 1) * self.block[0]
        self.check()

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        mask: np.ndarray | torch.Tensor | None = None,
        format: str = "csr",
        block: tuple[int, int] = (1, 1),
    ) -> SparseLinear:
        """Pack the weight of a dense layer, in its dtype and on its device.

        Args:
            linear: the layer; its weight and bias are copied, its hooks are not.
            mask: boolean ``[out, in]``, True where a weight is kept. Default: nonzero weights are kept.
            format: "csr" or "bsr".
            block: (rows, cols) of the stored blocks.

        Raises:
            FormatError: the mask does not fit the weight.
            UsageError: an unknown format, a block that does not divide the weight, a block for a format without blocks,
                or a hook or a parametrization computes the weight.
        """
        weight, bias = current("the layer", linear), current("the layer", linear, "bias")
        assert weight is not None  # an nn.Linear always has a weight
        if weight.dtype not in FLOATS:
            raise UsageError(f"the layer's weight is {weight.dtype}; convert the model with model.float()")
        encoder = FORMATS.get(format)
        if block != (1, 1) and not encoder.blocked:
            raise UsageError(
                f"block {block[0]}x{block[1]} does not apply to format {format!r}, which has no blocks"
            )
        values = as_numpy(weight)
        kept = values != 0 if mask is None else np.asarray(torch.as_tensor(mask).cpu())
        if kept.dtype != np.bool_ or kept.shape != values.shape:
            raise FormatError(f"mask must be bool {list(values.shape)}, not {kept.dtype}{list(kept.shape)}")
        arrays: dict[str, torch.Tensor] = {
            name: torch.from_numpy(array) for name, array in encoder.encode(values, kept, block).items()
        }
        arrays["data"] = arrays["data"].to(weight.dtype)
        bias = None if bias is None else bias.clone()
        return cls(arrays, bias, linear.in_features).to(weight.device).train(linear.training)

    @property
    def format(self) -> str:
        """Name of the storage format."""
        return "bsr" if self.data.ndim == 3 else "csr"

    @property
    def block(self) -> tuple[int, int]:
        """(rows, cols) of the stored blocks; (1, 1) for CSR."""
        return (self.data.shape[1], self.data.shape[2]) if self.data.ndim == 3 else (1, 1)

    @property
    def weight(self) -> torch.Tensor:
        """The dense ``[out, in]`` weight, built at each access: for code that reads it, not for speed.

        Raises:
            FormatError: the arrays were replaced by malformed ones.
        """
        self.check()
        return to_dense(self.data, self.indices, self.indptr, self.in_features)

    @property
    def array_names(self) -> tuple[str, ...]:
        """See `DenseState`."""
        return "data", "indices", "indptr"

    def dense_weight(self) -> torch.Tensor:
        """See `DenseState`."""
        return self.weight.detach()

    def pack_weight(self, weight: torch.Tensor) -> None:
        """See `DenseState`. Format and block do not change.

        Raises:
            UsageError: a dtype that the kernels do not support.
        """
        if weight.dtype not in FLOATS:
            raise UsageError(f"the weight is {weight.dtype}; load one in float32, float16 or bfloat16")
        values = as_numpy(weight)
        for name, array in FORMATS.get(self.format).encode(values, values != 0, self.block).items():
            tensor = torch.from_numpy(array).to(weight.device)
            setattr(self, name, tensor.to(weight.dtype) if name == "data" else tensor)

    def check(self) -> None:
        """Check the arrays, including every index.

        Raises:
            FormatError: the arrays are not a valid matrix, or the bias does not fit it.
        """
        arrays = {"indices": _numpy(self.indices), "indptr": _numpy(self.indptr), "data": _numpy(self.data)}
        FORMATS.get(self.format).check(arrays, (self.out_features, self.in_features), full=True)
        if self.bias is not None and self.bias.shape != (self.out_features,):
            raise FormatError(f"bias must be [{self.out_features}], not {list(self.bias.shape)}")

    def stored_tensors(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors that store the weight, values first."""
        return self.data, self.indices, self.indptr

    def to_linear(self) -> nn.Linear:
        """Return the equivalent dense layer, on the same device and in the same dtype."""
        weight = self.weight
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = nn.Parameter(weight)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone())
        return linear.train(self.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute y ``[..., out_features]`` from x ``[..., in_features]``, both float32, float16 or bfloat16.

        Raises:
            UsageError: another dtype or device, or weights that require a gradient.
            FormatError: another shape, or arrays that were replaced by malformed ones.
            RuntimeLoadError: there is no native library.
        """
        operator = bsr_linear if self.data.ndim == 3 else csr_linear
        return operator(x, self.data, self.indices, self.indptr, self.bias, self.in_features)

    def __getstate__(self) -> dict[str, Any]:
        # Outside torch.save, torch cannot unpickle uint16 tensors. Pickle them as int16, which indices never are.
        buffers = dict(self._buffers)
        if self.indices.dtype == torch.uint16:
            buffers["indices"] = self.indices.view(torch.int16)
        return self.__dict__ | {"_buffers": buffers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.indices.dtype == torch.int16:
            self.indices = self.indices.view(torch.uint16)

    def extra_repr(self) -> str:
        """Describe the layer for ``print(model)``."""
        stored = self.data.numel() / (self.in_features * self.out_features)
        blocks = f", block={self.block[0]}x{self.block[1]}" if self.data.ndim == 3 else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"format={self.format}{blocks}, stored={stored:.1%}"
        )


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """Convert to numpy for the check; bfloat16 is widened to float32, because numpy has none."""
    tensor = tensor.detach().cpu()
    return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
