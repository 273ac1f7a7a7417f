"""A linear layer with a packed weight, on a Triton kernel."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from aerogel.errors import FormatError, UsageError
from aerogel.torch.cuda.format import CUDA_FORMATS
from aerogel.torch.cuda.ops import Operator
from aerogel.torch.dense_state import DenseState, as_numpy
from aerogel.torch.loader import Matrix

__all__ = ["TritonLinear"]


class TritonLinear(DenseState):
    """``y = x W^T + b`` with a packed W, for inference on a GPU.

    The kernel's arrays are buffers: they are copied and moved with the model, and optimizers ignore them. A state dict
    contains the dense ``weight`` instead, see `DenseState`. Gradients flow to x and to a bias that requires one, not to
    the weights.

    Args:
        format: name of a format whose module has an ``OPERATOR``.
        weight: checked weight of the kernel.
        bias: ``[out_features]``, or None.
        block: (rows, cols) of the stored blocks; (1, 1) without blocks.

    Raises:
        FormatError: the bias does not fit.
    """

    bias: torch.Tensor | None

    def __init__(
        self, format: str, weight: Any, bias: torch.Tensor | None, block: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.format, self.block = format, block
        self.in_features, self.out_features = int(weight.in_features), int(weight.out_features)
        if bias is not None and bias.shape != (self.out_features,):
            raise FormatError(f"bias must be [{self.out_features}], not {list(bias.shape)}")
        self._operator = _operator(format)
        for name in self._operator.tensors:
            self.register_buffer(name, getattr(weight, name))
        self.numbers = tuple(int(getattr(weight, name)) for name in self._operator.numbers)
        self.register_buffer("bias", bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute y ``[..., out_features]`` from x ``[..., in_features]`` of the weight's dtype and device.

        Raises:
            UsageError: another dtype or device, or weights that require a gradient.
            FormatError: another shape.
        """
        return self._operator.call(x, *self.tensors(), self.bias, *self.numbers)

    def tensors(self) -> list[torch.Tensor]:
        """Return the kernel's arrays, in the operator's order."""
        return [getattr(self, name) for name in self._operator.tensors]

    def stored_tensors(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors that store the weight, values first."""
        return tuple(self.tensors())

    @property
    def weight(self) -> torch.Tensor:
        """The exact dense ``[out, in]`` weight, built at each access: for code that reads it, not for speed."""
        data = self.tensors()[0]
        previous = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            # I W^T is the transpose of W.
            unit = torch.eye(self.in_features, dtype=data.dtype, device=data.device)
            return self._operator.call(unit, *self.tensors(), None, *self.numbers).T.contiguous()
        finally:
            torch.set_float32_matmul_precision(previous)

    @property
    def array_names(self) -> tuple[str, ...]:
        """See `DenseState`."""
        return self._operator.tensors

    def dense_weight(self) -> torch.Tensor:
        """See `DenseState`.

        Raises:
            UsageError: there are no kernels for the layer's device.
        """
        return self.weight.detach()

    def pack_weight(self, weight: torch.Tensor) -> None:
        """See `DenseState`. Format and block do not change.

        Raises:
            UsageError: a dtype that the format does not support.
        """
        values = as_numpy(weight)
        matrix = Matrix(values, values != 0)
        made = CUDA_FORMATS.get(self.format).layer(
            "weight", matrix, self.block, None, weight.dtype, weight.device
        )
        assert isinstance(made, TritonLinear)
        for name in self.array_names:
            setattr(self, name, getattr(made, name))
        self.numbers = made.numbers

    def to_linear(self) -> nn.Linear:
        """Return the equivalent dense layer, on the same device and in the same dtype."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone())
        return linear.train(self.training)

    def __getstate__(self) -> dict[str, Any]:
        # Outside torch.save, torch cannot unpickle uint16 tensors. Pickle them as int16.
        buffers = {
            name: value.view(torch.int16) if value is not None and value.dtype == torch.uint16 else value
            for name, value in self._buffers.items()
        }
        state = {key: value for key, value in self.__dict__.items() if key != "_operator"}
        return state | {
            "_buffers": buffers,
            "_dtypes": {n: v.dtype for n, v in self._buffers.items() if v is not None},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        dtypes = state.pop("_dtypes")
        super().__setstate__(state)
        self._operator = _operator(self.format)
        for name, dtype in dtypes.items():
            if dtype == torch.uint16:
                setattr(self, name, getattr(self, name).view(dtype))

    def extra_repr(self) -> str:
        """Describe the layer for ``print(model)``."""
        blocks = f", block={self.block[0]}x{self.block[1]}" if self.block != (1, 1) else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"format={self.format}{blocks}"
        )


def _operator(format: str) -> Operator:
    CUDA_FORMATS.get(format)
    operator = getattr(importlib.import_module(CUDA_FORMATS.module(format)), "OPERATOR", None)
    if not isinstance(operator, Operator):
        raise UsageError(f"format {format!r} has no Triton kernel; use bsr, csr or packed")
    return operator
