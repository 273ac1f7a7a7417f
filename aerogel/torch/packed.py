"""Cache matrices in the kernels' packed form: packed at first use, dropped with the tensors they were made from.

Modules contain plain tensors only, so that they can be copied, pickled, moved and loaded as usual. The cache finds the
packed matrix by the tensors. An entry is valid while these are the same objects at the same addresses and unmodified:
an in-place operation that autograd counts, or a replacement of a tensor, packs the matrix again.
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
"""Supported dtypes. Kernels compute in float32, to which the others are widened exactly."""


@dataclass(frozen=True)
class _Entry:
    references: tuple[weakref.ref[torch.Tensor], ...]
    state: tuple[tuple[int, int], ...]
    linear: native.SparseLinear


# By the id() of the tensors. An entry is dropped when the first of them dies, before its id can be reused.
_entries: dict[tuple[int, ...], _Entry] = {}


def packed(
    data: torch.Tensor,
    indices: torch.Tensor,
    indptr: torch.Tensor,
    bias: torch.Tensor | None,
    in_features: int,
) -> native.SparseLinear:
    """Return the packed layer of these CPU tensors. See `native.SparseLinear` for their shapes.

    Raises:
        FormatError: the tensors are malformed.
        UsageError: data or bias has an unsupported dtype.
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
                f"SparseLinear: {name} must be float32, float16 or bfloat16, not "
                f"{str(tensor.dtype).removeprefix('torch.')}; convert the model with model.float()"
            )
    # Kernels read float16 directly. bfloat16 is widened, because numpy has none.
    values = data if data.dtype == torch.float16 else data.float()
    arrays = {"data": _array(values), "indices": _array(indices), "indptr": _array(indptr)}
    linear = native.SparseLinear(arrays, None if bias is None else _array(bias.float()), in_features)

    def drop(_: object) -> None:
        _entries.pop(key, None)

    # The layer may read the memory of `data`, but references an alias: the tensor object itself can still die.
    _entries[key] = _Entry(tuple(weakref.ref(tensor, drop) for tensor in tensors), state, linear)
    return linear


def check_library() -> None:
    """Check, before a model is changed, that this machine can run it.

    Raises:
        RuntimeLoadError: the native library is missing or cannot be loaded.
        UsageError: AEROGEL_ISA names an instruction set that is unknown or not available.
    """
    if find_library() is None:
        raise RuntimeLoadError(
            "SparseLinear needs the native library, which is not built; install a C++17 compiler and reinstall "
            "aerogel, or make the model dense with aerogel.torch.densify"
        )
    native.selected()


def _state(tensor: torch.Tensor) -> tuple[int, int]:
    # Tensors created in inference mode have no version counter.
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()
