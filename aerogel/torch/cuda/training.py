"""Fine-tune stored blocks on a GPU. The cost of forward and backward passes is proportional to the stored blocks.

    aerogel::triton_bsr_train(x, data, weight's arrays, index's arrays, bias, in_features, longest, index_longest) -> y
    aerogel::triton_bsr_input_grad(dy, ...) -> dx      dL/dx = dL/dy W
    aerogel::triton_bsr_weight_grad(dy, x, ...) -> ddata     dL/dW where a block is stored

Blocks that are not stored get no gradient: the mask is fixed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from aerogel.errors import FormatError, UsageError
from aerogel.kernels.triton import bsr_grad
from aerogel.kernels.triton.bsr_linear import BsrWeight, bsr_linear
from aerogel.torch.cuda.linear import TritonLinear
from aerogel.torch.dense import to_dense
from aerogel.torch.dense_state import DenseState

__all__ = ["BsrTrainable", "trainable"]

_WEIGHT = ("indices", "indptr", "order")
_INDEX = ("rows", "slots", "by_column", "indptr", "order")
_ARRAYS = (
    "Tensor data, Tensor indices, Tensor indptr, Tensor order, Tensor rows, Tensor slots, Tensor by_column, "
    "Tensor column_indptr, Tensor column_order"
)
_NUMBERS = "int in_features, int longest, int column_longest"
_library = torch.library.Library("aerogel", "FRAGMENT")


class BsrTrainable(DenseState):
    """``y = x W^T + b`` with trainable blocks: the parameters are ``data`` ``[blocks, r, c]`` and the bias.

    Args:
        layer: layer of format "bsr", whose arrays are shared.

    Raises:
        UsageError: a layer of another format.
    """

    format = "bsr"
    indices: torch.Tensor
    indptr: torch.Tensor

    def __init__(self, layer: TritonLinear) -> None:
        super().__init__()
        if layer.format != self.format:
            raise UsageError(f"layers of format {layer.format!r} cannot be trained; use format 'bsr'")
        self.in_features, self.out_features, self.block = layer.in_features, layer.out_features, layer.block
        arrays = layer.tensors()
        self.data = nn.Parameter(arrays[0])
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias)
        for name, array in zip(_WEIGHT, arrays[1:], strict=True):
            self.register_buffer(name, array)
        weight = _matrix(tuple(arrays), layer.numbers)
        index = bsr_grad.GradIndex.from_weight(weight)
        for name in _INDEX:
            self.register_buffer(f"by_column_{name}", getattr(index, name), persistent=False)
        self._numbers = (weight.in_features, weight.longest, index.longest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute y ``[..., out_features]`` from x ``[..., in_features]`` of the weight's dtype and device.

        Raises:
            UsageError: another dtype or device.
            FormatError: another shape.
        """
        arrays = [getattr(self, name) for name in _WEIGHT]
        arrays += [getattr(self, f"by_column_{name}") for name in _INDEX]
        y: torch.Tensor = torch.ops.aerogel.triton_bsr_train(x, self.data, *arrays, self.bias, *self._numbers)
        return y

    @property
    def array_names(self) -> tuple[str, ...]:
        """See `DenseState`."""
        return "data", *_WEIGHT

    def dense_weight(self) -> torch.Tensor:
        """See `DenseState`."""
        return to_dense(self.data.detach(), self.indices, self.indptr, self.in_features)

    def pack_weight(self, weight: torch.Tensor) -> None:
        """See `DenseState`. Replaces the values of the stored blocks; the mask does not change.

        Raises:
            FormatError: the weight is not zero outside of the stored blocks.
        """
        r, c = self.block
        row = torch.repeat_interleave(
            torch.arange(len(self.indptr) - 1, device=weight.device), self.indptr.diff()
        )
        grid = weight.reshape(self.out_features // r, r, self.in_features // c, c).transpose(1, 2)
        blocks = grid[row, self.indices.long()]
        if blocks.count_nonzero() != weight.count_nonzero():
            raise FormatError(
                "the weight is not zero outside of the trained blocks; densify the model before loading it"
            )
        with torch.no_grad():
            self.data.data = blocks.contiguous()

    def stored_tensors(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors that store the weight, values first."""
        return (self.data, *(getattr(self, name) for name in _WEIGHT))

    def to_layer(self) -> TritonLinear:
        """Return the layer for inference, with the current weights."""
        arrays = (self.data.detach(), *(getattr(self, name) for name in _WEIGHT))
        weight = _matrix(arrays, self._numbers)
        bias = None if self.bias is None else self.bias.detach()
        return TritonLinear(self.format, weight, bias, self.block).train(self.training)

    def to_linear(self) -> nn.Linear:
        """Return the equivalent dense layer, on the same device and in the same dtype."""
        return self.to_layer().to_linear()


def trainable(model: nn.Module) -> Any:
    """Replace every layer of format "bsr" on a GPU, in place, by one whose blocks and bias are parameters.

    Returns:
        The model, in training mode. `aerogel.torch.densify` makes it dense again.

    Raises:
        UsageError: there is no such layer.
    """
    from aerogel.torch.conversion import replace

    layers = [m for m in model.modules() if isinstance(m, TritonLinear) and m.format == "bsr"]
    if not layers:
        raise UsageError(
            "the model has no bsr layer on a GPU; call sparsify(model, 'bsr', device='cuda') first"
        )
    return replace(model, {id(layer): BsrTrainable(layer) for layer in layers}).train()


def _matrix(arrays: tuple[torch.Tensor, ...], numbers: tuple[int, ...]) -> BsrWeight:
    data, indices, indptr, order = arrays[:4]
    return BsrWeight(data, indices, indptr, order, numbers[0], numbers[1])


def _index(arrays: tuple[torch.Tensor, ...], numbers: tuple[int, ...]) -> bsr_grad.GradIndex:
    rows, slots, by_column, indptr, order = arrays[4:]
    return bsr_grad.GradIndex(rows, slots, by_column, indptr, order, numbers[2])


def _forward(x: torch.Tensor, *rest: Any) -> torch.Tensor:
    return bsr_linear(x, _matrix(rest[:9], rest[10:]), rest[9])


def _forward_shape(x: torch.Tensor, *rest: Any) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], _matrix(rest[:9], rest[10:]).out_features))


def _input_grad(grad: torch.Tensor, *rest: Any) -> torch.Tensor:
    return bsr_grad.input_grad(grad, _matrix(rest[:9], rest[9:]), _index(rest[:9], rest[9:]))


def _input_grad_shape(grad: torch.Tensor, *rest: Any) -> torch.Tensor:
    return grad.new_empty((*grad.shape[:-1], rest[9]))


def _weight_grad(grad: torch.Tensor, x: torch.Tensor, *rest: Any) -> torch.Tensor:
    return bsr_grad.weight_grad(grad, x, _matrix(rest[:9], rest[9:]), _index(rest[:9], rest[9:]))


def _weight_grad_shape(grad: torch.Tensor, x: torch.Tensor, *rest: Any) -> torch.Tensor:
    del grad, x
    return torch.empty_like(rest[0])


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs[:10])
    ctx.numbers = inputs[11:]


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, *arrays = ctx.saved_tensors
    needs_x, needs_data = ctx.needs_input_grad[:2]
    operators = torch.ops.aerogel
    return (
        operators.triton_bsr_input_grad(grad, *arrays, *ctx.numbers) if needs_x else None,
        operators.triton_bsr_weight_grad(grad, x, *arrays, *ctx.numbers) if needs_data else None,
        *([None] * 8),
        bsr_grad.bias_grad(grad, grad.dtype) if ctx.needs_input_grad[10] else None,
        *([None] * 3),
    )


for _name, _operands, _run, _shape in (
    ("train", f"Tensor x, {_ARRAYS}, Tensor? bias, {_NUMBERS}", _forward, _forward_shape),
    ("input_grad", f"Tensor grad, {_ARRAYS}, {_NUMBERS}", _input_grad, _input_grad_shape),
    ("weight_grad", f"Tensor grad, Tensor x, {_ARRAYS}, {_NUMBERS}", _weight_grad, _weight_grad_shape),
):
    _library.define(f"triton_bsr_{_name}({_operands}) -> Tensor")
    _library.impl(f"triton_bsr_{_name}", _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"aerogel::triton_bsr_{_name}", _shape, lib=_library)
torch.library.register_autograd(
    "aerogel::triton_bsr_train", _backward, setup_context=_save_inputs, lib=_library
)
