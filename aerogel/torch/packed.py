"""The kernels' own form of a matrix, prepared at its first use and kept as long as the tensors it was made from.

A module holds plain tensors only, so that copying, pickling, moving and loading it need no special care; what the
kernels made of them is found by the tensors themselves. It counts only while they are the same objects, at the same
addresses, unaltered: any in-place operation that autograd would notice, and any replacement, prepares anew.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import torch

from aerogel.errors import RuntimeLoadError, UsageError
from aerogel.kernels.cpu import native
from aerogel.kernels.cpu.library import find_library

__all__ = ["FLOATS", "check_library", "packed"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that are taken. Sums are float32, to which the others are widened without loss."""


@dataclass(frozen=True)
class _Entry:
    references: tuple[weakref.ref[torch.Tensor], ...]
    state: tuple[tuple[int, int], ...]
    linear: native.SparseLinear


# By the identities of the tensors. An entry goes when the first of them does, before that identity can be another's.
_entries: dict[tuple[int, ...], _Entry] = {}


def packed(
    data: torch.Tensor,
    indices: torch.Tensor,
    indptr: torch.Tensor,
    bias: torch.Tensor | None,
    in_features: int,
) -> native.SparseLinear:
    """The layer that these tensors on the CPU describe, ready to run. See `native.SparseLinear` for their shapes.

    Raises:
        FormatError: the tensors are malformed.
        UsageError: data or bias is of a dtype that is not taken.
        RuntimeLoadError: there is no native library.
    """
    tensors = (data, indices, indptr) if bias is None else (data, indices, indptr, bias)
    key = (in_features, *map(id, tensors))
    state = tuple(map(_state, tensors))
    entry = _entries.get(key)
    if entry is not None and entry.state == state:
        return entry.linear
    check_library()
    for name, tensor in (("data", data), ("bias", bias)):
        if tensor is not None and tensor.dtype not in FLOATS:
            raise UsageError(
                f"{name} of SparseLinear is {str(tensor.dtype).removeprefix('torch.')}, but kernels sum in float32; "
                "convert the model with model.float()"
            )
    # Kernels read float16 as it is. numpy has no bfloat16.
    values = data if data.dtype == torch.float16 else data.float()
    arrays = {"data": _array(values), "indices": _array(indices), "indptr": _array(indptr)}
    linear = native.SparseLinear(arrays, None if bias is None else _array(bias.float()), in_features)

    def drop(_: object) -> None:
        _entries.pop(key, None)

    # The layer may read `data` where it lies, but holds an alias of it: the tensor itself dies with its last user.
    _entries[key] = _Entry(tuple(weakref.ref(tensor, drop) for tensor in tensors), state, linear)
    return linear


def check_library() -> None:
    """Refuse, before a model is changed, a machine on which it could not run.

    Raises:
        RuntimeLoadError: the native library is not there or cannot be loaded.
        UsageError: AEROGEL_ISA names an instruction set that is not known or not available.
    """
    if find_library() is None:
        raise RuntimeLoadError(
            "SparseLinear needs the native library, which is not built; install a C++17 compiler and reinstall "
            "aerogel, or run the model dense (aerogel.torch.densify)"
        )
    native.selected()


def _state(tensor: torch.Tensor) -> tuple[int, int]:
    # Tensors made in inference mode count no versions.
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()
