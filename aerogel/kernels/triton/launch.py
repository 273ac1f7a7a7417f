"""Checks of arguments and device properties, shared by the wrappers of all kernels."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from aerogel.errors import FormatError, UsageError

__all__ = [
    "DTYPES",
    "Device",
    "as_matrix",
    "as_rows",
    "check_vector",
    "device_of",
    "dot",
    "interpreted",
    "name_of",
    "precision_of",
    "widened",
]

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
"""Dtypes that the kernels support. They accumulate in float32."""

PRECISIONS = ("ieee", "tf32", "tf32x3")


@dataclass(frozen=True)
class Device:
    """Device properties that the choice of tiles depends on. Defaults: an H200.

    Attributes:
        name: name reported by the driver.
        processors: number of streaming multiprocessors.
        shared_memory: bytes of shared memory per program.
    """

    name: str = "NVIDIA H200"
    processors: int = 132
    shared_memory: int = 232_448


@triton.jit
def dot(a, b, value, WIDEN: tl.constexpr, PRECISION: tl.constexpr):
    """Return value + a b, computed on tensor cores and accumulated in float32. For WIDEN see `widened`."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, value, input_precision=PRECISION)


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter. The environment at Triton's first import decides."""
    return not isinstance(dot, triton.JITFunction)


def widened(dtype: torch.dtype) -> bool:
    """Whether products must be widened to float32: the interpreter multiplies the bits of bfloat16 as integers."""
    return interpreted() and dtype == torch.bfloat16


def device_of(tensor: torch.Tensor, name: str) -> Device:
    """Return the device of `tensor`, an argument of operation `name`.

    Raises:
        UsageError: the tensor is not on a GPU, and kernels are not interpreted.
    """
    if tensor.device.type == "cuda":
        return _properties(tensor.device.index or 0)
    if interpreted() and tensor.device.type == "cpu":
        return Device()
    raise UsageError(
        f"{name} needs CUDA tensors, not {tensor.device}; move the model and its inputs with .to('cuda'), or set "
        "TRITON_INTERPRET=1 to run the kernels slowly on the CPU"
    )


def as_rows(x: torch.Tensor, width: int, weight: torch.Tensor, name: str) -> torch.Tensor:
    """View x ``[..., width]`` as ``[tokens, width]`` with contiguous rows; copy only if necessary.

    Raises:
        UsageError: see `as_matrix`.
        FormatError: see `as_matrix`.
    """
    rows = as_matrix(x, width, weight, name)
    return rows if rows.stride(1) == 1 or width == 1 else rows.contiguous()


def as_matrix(x: torch.Tensor, width: int, weight: torch.Tensor, name: str) -> torch.Tensor:
    """View x ``[..., width]`` as ``[tokens, width]`` with any strides.

    Raises:
        UsageError: x has another dtype or device than `weight`, or is not dense.
        FormatError: the last dimension of x is not `width`.
    """
    if x.layout != torch.strided:
        raise UsageError(f"{name}: the input must be dense, not {x.layout}; convert it with .to_dense()")
    if x.dtype not in DTYPES or x.dtype != weight.dtype:
        raise UsageError(
            f"{name}: the input must be {name_of(weight)} like the weight, not {name_of(x)}; convert it with .to()"
        )
    if x.device != weight.device:
        raise UsageError(
            f"{name}: the weight is on {weight.device} and the input on {x.device}; move one of them with .to()"
        )
    if x.ndim == 0 or x.shape[-1] != width:
        raise FormatError(f"{name}: the input must be [..., {width}], not {list(x.shape)}")
    return x.detach().reshape(-1, width)


def check_vector(vector: torch.Tensor | None, width: int, weight: torch.Tensor, name: str) -> None:
    """Check a bias; None is valid.

    Raises:
        UsageError: the bias is not a float tensor on the device of `weight`.
        FormatError: the bias is not a contiguous ``[width]``.
    """
    if vector is None:
        return
    if vector.dtype not in DTYPES or vector.device != weight.device:
        raise UsageError(
            f"{name} must be float16, bfloat16 or float32 on {weight.device}, not {name_of(vector)} on {vector.device}"
        )
    if vector.shape != (width,) or not vector.is_contiguous():
        raise FormatError(f"{name} must be contiguous [{width}], not {list(vector.shape)}")


def precision_of(requested: str | None, dtype: torch.dtype) -> str:
    """Choose how float32 is multiplied: "ieee", "tf32" or "tf32x3".

    "tf32x3" computes three tf32 products and is nearly as exact as float32. The default follows
    ``torch.set_float32_matmul_precision``: "highest" means ieee, other settings tf32. Products of other dtypes are
    exact.

    Raises:
        UsageError: an unknown precision.
    """
    if requested is not None and requested not in PRECISIONS:
        raise UsageError(f"unknown precision {requested!r}; known: {', '.join(PRECISIONS)}")
    if dtype != torch.float32:
        return "ieee"
    if requested is not None:
        return requested
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def name_of(tensor: torch.Tensor) -> str:
    """Return the name of a tensor's dtype without "torch."."""
    return str(tensor.dtype).removeprefix("torch.")


@functools.cache
def _properties(index: int) -> Device:
    found = torch.cuda.get_device_properties(index)
    # Older versions of torch do not report it. Every GPU since 2020 has at least this much.
    shared = getattr(found, "shared_memory_per_block_optin", 0) or 101_376
    return Device(found.name, found.multi_processor_count, shared)
