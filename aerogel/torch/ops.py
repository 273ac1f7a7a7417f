"""The operators ``aerogel::csr_linear`` and ``aerogel::bsr_linear``: y = x W^T + b with a packed W.

    csr_linear(x, data, indices, indptr, bias, in_features) -> y

    x        float32, float16 or bfloat16 ``[..., in]``
    data     ``[entries]``, for BSR ``[blocks, r, c]``; of the same dtypes
    indices  uint16 or int32 ``[entries]``, for BSR ``[blocks]``
    indptr   int32 ``[out + 1]``, for BSR ``[out / r + 1]``
    bias     ``[out]``, or None
    y        ``[..., out]``, contiguous, of the dtype of x; sums are float32

Importing this module registers them. Output shapes depend only on input shapes, so torch.compile and torch.export can
trace them. Weights are constants: gradients flow to x only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from aerogel.errors import FormatError, UsageError
from aerogel.torch.dense import to_dense
from aerogel.torch.packed import FLOATS, packed

__all__ = ["bsr_linear", "csr_linear", "threads_for"]

# Multiplications per additional thread. The library starts threads for each call, which costs about as much as two
# million multiplications.
_GRAIN = 1 << 22

_SCHEMA = "(Tensor x, Tensor data, Tensor indices, Tensor indptr, Tensor? bias, int in_features) -> Tensor"
# FRAGMENT: other modules may define operators for other devices.
_library = torch.library.Library("aerogel", "FRAGMENT")


def threads_for(entries: int, tokens: int) -> int:
    """Choose the number of threads for a product of `entries` stored entries with `tokens` rows of x.

    It is at most torch's number of threads and does not change the result.
    """
    return max(1, min(torch.get_num_threads(), entries * tokens // _GRAIN))


def _define(name: str, dimensions: int) -> Callable[..., torch.Tensor]:
    """Register the operator `name`, whose data has this number of dimensions."""

    def on_cpu(
        x: torch.Tensor,
        data: torch.Tensor,
        indices: torch.Tensor,
        indptr: torch.Tensor,
        bias: torch.Tensor | None,
        in_features: int,
    ) -> torch.Tensor:
        if x.dtype not in FLOATS:
            raise UsageError(
                f"{name}: x must be float32, float16 or bfloat16, not {str(x.dtype).removeprefix('torch.')}; "
                "convert it with x.float()"
            )
        if data.ndim != dimensions:
            raise FormatError(f"{name}: data must have {dimensions} dimensions, not shape {list(data.shape)}")
        if x.ndim == 0 or x.shape[-1] != in_features:
            raise FormatError(f"{name}: x must be [..., {in_features}], not {list(x.shape)}")
        linear = packed(data, indices, indptr, bias, in_features)
        # Explicit dtype and device, because a program may change torch's defaults.
        y = torch.empty((*x.shape[:-1], linear.out_features), dtype=torch.float32, device="cpu")
        rows, tokens = x.float().contiguous(), x.numel() // in_features
        linear.run(rows.data_ptr(), tokens, y.data_ptr(), threads_for(data.numel(), tokens))
        return y.to(x.dtype)

    def elsewhere(x: torch.Tensor, data: torch.Tensor, *_: Any) -> torch.Tensor:
        raise UsageError(
            f"{name} needs dense tensors on the CPU, but x is on {x.device} ({x.layout}) and the weights on "
            f"{data.device}; move both to the CPU, or call sparsify(model, device='cuda') on the original model"
        )

    def shape_only(
        x: torch.Tensor,
        data: torch.Tensor,
        indices: torch.Tensor,
        indptr: torch.Tensor,
        bias: torch.Tensor | None,
        in_features: int,
    ) -> torch.Tensor:
        del indices, bias
        torch._check(x.shape[-1] == in_features)
        height = data.shape[1] if dimensions == 3 else 1
        return x.new_empty((*x.shape[:-1], (indptr.shape[0] - 1) * height))

    def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        del output
        _, data, indices, indptr, bias, ctx.in_features = inputs
        if data.requires_grad or (bias is not None and bias.requires_grad):
            raise UsageError(
                f"the weights of {name} cannot be trained; make the model dense first, with aerogel.torch.densify"
            )
        ctx.save_for_backward(data, indices, indptr)

    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # dL/dx[t, k] = sum_n dL/dy[t, n] W[n, k], with W made dense, at dense cost.
        data, indices, indptr = ctx.saved_tensors
        weight = to_dense(data, indices, indptr, ctx.in_features)
        return (grad.float() @ weight.float()).to(grad.dtype), None, None, None, None, None

    _library.define(name + _SCHEMA)
    _library.impl(name, on_cpu, "CPU")
    _library.impl(name, elsewhere, "CompositeExplicitAutograd")
    torch.library.register_fake(f"aerogel::{name}", shape_only, lib=_library)
    torch.library.register_autograd(f"aerogel::{name}", backward, setup_context=save_inputs, lib=_library)
    operator: Callable[..., torch.Tensor] = getattr(torch.ops.aerogel, name).default
    return operator


csr_linear = _define("csr_linear", 1)
bsr_linear = _define("bsr_linear", 3)
