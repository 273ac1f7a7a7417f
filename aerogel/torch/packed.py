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
from aerogel.kernels.cpu import find_library, native

__all__ = ["FLOATS", "check_library", "packed"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that are taken. Sums are float32, to which the others are widened without loss."""


@dataclass(frozen=True)
class _Entry:
    references: tuple[weakref.ref[torch.Tensor] | None, ...]
    stamp: tuple[int, ...]
    linear: native.SparseLinear

    def is_of(self, tensors: tuple[torch.Tensor | None, ...], stamp: tuple[int, ...]) -> bool:
        return stamp == self.stamp and all(
            tensor is (reference() if reference else None)
            for tensor, reference in zip(tensors, self.references, strict=True)
        )


_entries: dict[int, _Entry] = {}


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
    tensors = (data, indices, indptr, bias)
    stamp = (in_features, *(number for tensor in tensors if tensor is not None for number in _state(tensor)))
    key = id(data)
    entry = _entries.get(key)
    if entry is not None and entry.is_of(tensors, stamp):
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
    # The layer may read `data` where it lies, but through an alias: the tensor itself dies with its last user, and
    # this entry with it.
    references = (
        weakref.ref(data, lambda _: _entries.pop(key, None)),
        *(None if tensor is None else weakref.ref(tensor) for tensor in tensors[1:]),
    )
    _entries[key] = _Entry(references, stamp, linear)
    return linear


def check_library() -> None:
    """Refuse, before a model is changed, a machine on which it could not run.

    Raises:
        RuntimeLoadError: the native library is not there or cannot be loaded.
        UsageError: AEROGEL_ISA names an instruction set that is not known.
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
