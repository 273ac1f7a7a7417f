"""What the wrappers of all kernels share: which tensors they take, and what they know of the device."""

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
"""Dtypes that the kernels take. Sums are float32."""

PRECISIONS = ("ieee", "tf32", "tf32x3")


@dataclass(frozen=True)
class Device:
    """What the choice of tiles depends on, in plain numbers; the defaults are those of an H200.

    Attributes:
        name: as the driver says it.
        processors: streaming multiprocessors.
        shared_memory: bytes that one program can have.
    """

    name: str = "NVIDIA H200"
    processors: int = 132
    shared_memory: int = 232_448


@triton.jit
def dot(a, b, value, WIDEN: tl.constexpr, PRECISION: tl.constexpr):
    """Give value + a b on tensor cores, added up in float32. WIDEN is for `widened`."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, value, input_precision=PRECISION)


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter; settled by the environment when Triton was first imported."""
    return not isinstance(dot, triton.JITFunction)


def widened(dtype: torch.dtype) -> bool:
    """Whether products must be of float32: the interpreter multiplies the bits of bfloat16 as integers."""
    return interpreted() and dtype == torch.bfloat16


def device_of(tensor: torch.Tensor, name: str) -> Device:
    """The device that `tensor`, an argument of the operation called `name`, lies on.

    Raises:
        UsageError: it is no GPU, and kernels are not interpreted.
    """
    if tensor.device.type == "cuda":
        return _properties(tensor.device.index or 0)
    if interpreted() and tensor.device.type == "cpu":
        return Device()
    raise UsageError(
        f"{name} runs on CUDA tensors, not on {tensor.device}; move the model and its inputs with .to('cuda'), or set "
        "TRITON_INTERPRET=1 to run the kernels slowly on the CPU"
    )


def as_rows(x: torch.Tensor, width: int, weight: torch.Tensor, name: str) -> torch.Tensor:
    """View x ``[..., width]`` as ``[tokens, width]`` whose rows are contiguous; copied only if it has to be.

    Raises:
        UsageError: see `as_matrix`.
        FormatError: see `as_matrix`.
    """
    rows = as_matrix(x, width, weight, name)
    return rows if rows.stride(1) == 1 or width == 1 else rows.contiguous()


def as_matrix(x: torch.Tensor, width: int, weight: torch.Tensor, name: str) -> torch.Tensor:
    """View x ``[..., width]`` as ``[tokens, width]`` of any strides.

    Raises:
        UsageError: its dtype is not that of `weight`, or it is elsewhere.
        FormatError: its last dimension is not `width`.
    """
    if x.layout != torch.strided:
        raise UsageError(f"{name} takes dense tensors, not {x.layout}; convert with .to_dense()")
    if x.dtype not in DTYPES or x.dtype != weight.dtype:
        raise UsageError(
            f"{name} takes {'float16, bfloat16 or float32' if x.dtype not in DTYPES else name_of(weight)} "
            f"where its weight is {name_of(weight)}, not {name_of(x)}; convert with .to()"
        )
    if x.device != weight.device:
        raise UsageError(f"{name} has its weight on {weight.device} and its input on {x.device}; move one")
    if x.ndim == 0 or x.shape[-1] != width:
        raise FormatError(f"{name} takes [..., {width}], not {list(x.shape)}")
    return x.detach().reshape(-1, width)


def check_vector(vector: torch.Tensor | None, width: int, weight: torch.Tensor, name: str) -> None:
    """Refuse a bias that does not fit.

    Raises:
        UsageError: it is not floating, or elsewhere than `weight`.
        FormatError: it is not a contiguous ``[width]``.
    """
    if vector is None:
        return
    if vector.dtype not in DTYPES or vector.device != weight.device:
        raise UsageError(
            f"{name} takes float16, bfloat16 or float32 on {weight.device}, not {name_of(vector)} on {vector.device}"
        )
    if vector.shape != (width,) or not vector.is_contiguous():
        raise FormatError(f"{name} must be contiguous [{width}], not {list(vector.shape)}")


def precision_of(asked: str | None, dtype: torch.dtype) -> str:
    """How float32 is multiplied: "ieee", "tf32" or "tf32x3" (three tf32 products, nearly as exact as float32).

    None stands for what ``torch.set_float32_matmul_precision`` says: "highest" is ieee, the others are tf32. Of other
    dtypes the products are exact.

    Raises:
        UsageError: another word.
    """
    if asked is not None and asked not in PRECISIONS:
        raise UsageError(f"unknown precision {asked!r}; known: {', '.join(PRECISIONS)}")
    if dtype != torch.float32:
        return "ieee"
    if asked is not None:
        return asked
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def name_of(tensor: torch.Tensor) -> str:
    """Dtype of a tensor without the name of the library."""
    return str(tensor.dtype).removeprefix("torch.")


@functools.cache
def _properties(index: int) -> Device:
    found = torch.cuda.get_device_properties(index)
    # Older versions of torch do not tell; this is what every GPU since 2020 has.
    shared = getattr(found, "shared_memory_per_block_optin", 0) or 101_376
    return Device(found.name, found.multi_processor_count, shared)
