"""Torch operators on Triton kernels, such as ``aerogel::triton_bsr_linear``.

    triton_bsr_linear(x, data, indices, indptr, order, bias, in_features, longest) -> x W^T + bias

The arguments after x are the fields of the kernel's weight class: its tensors, then the bias, then its integers.
torch.compile, torch.export and CUDA graphs so see plain tensors, and output shapes depend only on input shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch

from aerogel.errors import UsageError

__all__ = ["Operator", "define"]

_library = torch.library.Library("aerogel", "FRAGMENT")


@dataclass(frozen=True)
class Operator:
    """A registered operator.

    Attributes:
        call: called with x, the tensors, the bias or None, and the numbers.
        weight: weight class of the kernel.
        tensors: names of its tensor fields, in order.
        numbers: names of its integer fields, in order.
    """

    call: Callable[..., torch.Tensor]
    weight: Callable[..., Any]
    tensors: tuple[str, ...]
    numbers: tuple[str, ...]


def define(
    name: str,
    weight: type,
    multiply: Callable[[torch.Tensor, Any, torch.Tensor | None], torch.Tensor],
    input_gradient: Callable[[torch.Tensor, Any], torch.Tensor] | None = None,
) -> Operator:
    """Register ``aerogel::triton_NAME_linear``.

    Args:
        name: name of the format.
        weight: dataclass of tensors and integers, with a property `out_features`.
        multiply: x, weight, bias -> x W^T + bias.
        input_gradient: dL/dy, weight -> dL/dx. Default: multiply by the dense W, at dense cost.
    """
    types = {field.name: str(field.type) for field in fields(weight)}
    tensors = tuple(key for key, annotation in types.items() if "Tensor" in annotation)
    numbers = tuple(key for key in types if key not in tensors)
    op_name = f"triton_{name}_linear"
    operands = ", ".join(f"Tensor {key}" for key in tensors)
    rest = ", ".join(f"int {key}" for key in numbers)
    count = len(tensors)

    def unpack(arguments: tuple[Any, ...]) -> tuple[Any, torch.Tensor | None]:
        values = dict(zip(tensors, arguments[:count], strict=True))
        values |= dict(zip(numbers, arguments[count + 1 :], strict=True))
        return weight(**values), arguments[count]

    def run(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
        matrix, bias = unpack(arguments)
        return multiply(x, matrix, bias)

    def shape_only(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
        matrix, _ = unpack(arguments)
        torch._check(x.shape[-1] == matrix.in_features)
        return x.new_empty((*x.shape[:-1], matrix.out_features))

    def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        del output
        if any(tensor.requires_grad for tensor in inputs[1 : count + 1]):
            raise UsageError(
                f"the weights of {op_name} cannot be trained; make the model dense first, with aerogel.torch.densify"
            )
        ctx.has_bias = inputs[count + 1] is not None
        ctx.save_for_backward(*inputs[1 : count + 1])
        ctx.numbers = inputs[count + 2 :]

    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = (*ctx.saved_tensors, None, *ctx.numbers)
        if input_gradient is not None:
            grad_x = input_gradient(grad, unpack(saved)[0])
        else:
            # dL/dx = dL/dy W, and I W^T is the transpose of W.
            unit = torch.eye(unpack(saved)[0].in_features, dtype=grad.dtype, device=grad.device)
            grad_x = grad @ operator(unit, *saved).T
        grad_bias = grad.flatten(0, -2).sum(0) if ctx.has_bias else None
        return grad_x, *([None] * count), grad_bias, *([None] * len(numbers))

    _library.define(f"{op_name}(Tensor x, {operands}, Tensor? bias, {rest}) -> Tensor")
    _library.impl(op_name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"aerogel::{op_name}", shape_only, lib=_library)
    torch.library.register_autograd(f"aerogel::{op_name}", backward, setup_context=save_inputs, lib=_library)
    operator: Callable[..., torch.Tensor] = getattr(torch.ops.aerogel, op_name).default
    return Operator(operator, weight, tensors, numbers)
