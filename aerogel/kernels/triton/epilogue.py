"""The epilogue of a product, y = activation(product + bias) + residual, inside a kernel or as a separate pass.

The separate pass, `finish`, sums the partial products of kernels that split a sum over several programs. It always adds
them in the same order, so results are bit-identical from call to call.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn import functional as F

from aerogel.errors import FormatError, UsageError
from aerogel.kernels.triton.launch import check_vector, name_of

__all__ = ["ACTIVATIONS", "apply", "check_epilogue", "finish", "reference"]

ACTIVATIONS = ("none", "gelu", "gelu_tanh")
"""gelu: x/2 (1 + erf(x / sqrt 2)); gelu_tanh: x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

_TOKENS = 32
_COLUMNS = 64


def reference(
    product: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute activation(product + bias) + residual in plain PyTorch, in the dtype of `product`."""
    y = product if bias is None else product + bias.to(product.dtype)
    if activation != "none":
        y = F.gelu(y, approximate="tanh" if activation == "gelu_tanh" else "none")
    return y if residual is None else y + residual.to(product.dtype).reshape(y.shape)


def check_epilogue(
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    shape: tuple[int, int],
    weight: torch.Tensor,
    name: str,
) -> torch.Tensor | None:
    """Check the epilogue of a product of `shape` (tokens, out).

    Returns:
        The residual as ``[tokens, out]``, or None.

    Raises:
        UsageError: an unknown activation, or an unsupported dtype or device.
        FormatError: the bias or residual has another shape.
    """
    if activation not in ACTIVATIONS:
        raise UsageError(f"{name}: unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    check_vector(bias, shape[1], weight, f"bias of {name}")
    if residual is None:
        return None
    if residual.dtype != weight.dtype or residual.device != weight.device:
        raise UsageError(
            f"residual of {name} must be {name_of(weight)} on {weight.device}, "
            f"not {name_of(residual)} on {residual.device}"
        )
    if residual.shape[-1:] != shape[1:] or residual.numel() != shape[0] * shape[1]:
        raise FormatError(f"residual of {name} must be {list(shape)}, not {list(residual.shape)}")
    rows = residual.detach().reshape(shape)
    return rows if rows.stride(1) == 1 or shape[1] == 1 else rows.contiguous()


@triton.jit
def apply(
    value,  # [TOKENS, COLUMNS] float32
    bias,
    residual,
    residual_stride,
    token,  # [TOKENS] int64
    column,  # [COLUMNS] int64
    tokens,
    columns,
    ACTIVATION: tl.constexpr,
):
    """Compute activation(value + bias) + residual; bias and residual may be None."""
    if bias is not None:
        value += tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    if ACTIVATION == "gelu":
        value = 0.5 * value * (1.0 + tl.erf(value * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":
        # (1 + tanh u) / 2 is the logistic function of 2u, which needs no tanh from the device library.
        u = 1.5957691216057308 * (value + 0.044715 * value * value * value)
        # exp(-|u|) never overflows.
        small = tl.exp(-tl.abs(u))
        value = value * tl.where(u >= 0, 1.0, small) / (1.0 + small)
    if residual is not None:
        at = residual + token[:, None] * residual_stride + column[None, :]
        inside = (token < tokens)[:, None] & (column < columns)[None, :]
        value += tl.load(at, mask=inside, other=0.0).to(tl.float32)
    return value


@triton.jit
def _finish(
    partial,
    bias,
    residual,
    y,
    tokens,
    columns,
    splits,
    split_stride,
    token_stride,
    column_stride,
    residual_stride,
    ACTIVATION: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    across = tl.cdiv(columns, COLUMNS)
    token = (tl.program_id(0) // across).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    column = (tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (token < tokens)[:, None] & (column < columns)[None, :]
    at = partial + token[:, None] * token_stride + column[None, :] * column_stride
    value = tl.zeros([TOKENS, COLUMNS], tl.float32)
    for _ in range(0, splits):
        value += tl.load(at, mask=inside, other=0.0)
        at += split_stride
    value = apply(value, bias, residual, residual_stride, token, column, tokens, columns, ACTIVATION)
    tl.store(y + token[:, None] * columns + column[None, :], value.to(y.dtype.element_ty), mask=inside)


def finish(
    partial: torch.Tensor,
    y: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
) -> None:
    """Write y ``[tokens, out]`` = activation(sum over s of partial[s] + bias) + residual.

    Args:
        partial: float32 ``[splits, tokens, out]`` with any strides.
        y: contiguous output.
        bias: ``[out]`` or None, checked by `check_epilogue`, like the other arguments.
        activation: one of `ACTIVATIONS`.
        residual: ``[tokens, out]`` or None.
    """
    splits, tokens, columns = partial.shape
    grid = (triton.cdiv(tokens, _TOKENS) * triton.cdiv(columns, _COLUMNS),)
    _finish[grid](
        partial, bias, residual, y, tokens, columns, splits, *partial.stride(),
        0 if residual is None else residual.stride(0), ACTIVATION=activation, TOKENS=_TOKENS, COLUMNS=_COLUMNS,
    )  # fmt: skip
