"""Intel MKL's CSR times feature-major activations, optimised for this product before timing."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bench.kernel import Kernel, Layer
from aerogel.errors import MissingExtraError, RuntimeLoadError

__all__ = ["KERNEL"]

# Constants of mkl_spblas.h.
_ZERO_BASED, _NO_TRANSPOSE, _GENERAL, _UPPER, _NON_UNIT, _ROW_MAJOR = 0, 10, 20, 40, 50, 101
_MANY_CALLS = 1000


class _Description(ctypes.Structure):
    """The struct matrix_descr."""

    _fields_ = (("type", ctypes.c_int), ("mode", ctypes.c_int), ("diag", ctypes.c_int))


class _Mkl(Kernel):
    def refuse(self) -> str | None:
        return None if _file() else "MKL is not installed; run: pip install mkl"

    def open(self, layer: Layer) -> Callable[[], np.ndarray]:
        mkl = _library()
        rows, columns = layer.weight.shape
        tokens = len(layer.x)
        counts = np.count_nonzero(layer.mask, axis=1)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        indices = np.nonzero(layer.mask)[1].astype(np.int32)
        data = np.ascontiguousarray(layer.weight[layer.mask])
        handle = ctypes.c_void_p()
        starts = indptr.ctypes.data
        _checked(
            mkl.mkl_sparse_s_create_csr(
                ctypes.byref(handle), _ZERO_BASED, rows, columns, ctypes.c_void_p(starts),
                ctypes.c_void_p(starts + indptr.itemsize), ctypes.c_void_p(indices.ctypes.data),
                ctypes.c_void_p(data.ctypes.data),
            )
        )  # fmt: skip
        general = _Description(_GENERAL, _UPPER, _NON_UNIT)
        _checked(mkl.mkl_sparse_set_mm_hint(handle, _NO_TRANSPOSE, general, _ROW_MAJOR, tokens, _MANY_CALLS))
        _checked(mkl.mkl_sparse_optimize(handle))
        x = np.ascontiguousarray(layer.x.T)
        y = np.empty((rows, tokens), np.float32)
        kept = indptr, indices, data

        def run() -> np.ndarray:
            assert kept  # the handle points into these arrays
            _checked(
                mkl.mkl_sparse_s_mm(
                    _NO_TRANSPOSE, ctypes.c_float(1), handle, general, _ROW_MAJOR, ctypes.c_void_p(x.ctypes.data),
                    tokens, tokens, ctypes.c_float(0), ctypes.c_void_p(y.ctypes.data), tokens,
                )
            )  # fmt: skip
            return np.transpose(y)

        return run


def _checked(status: int) -> None:
    if status:
        raise RuntimeLoadError(
            f"MKL failed on a sparse product (status {status}); install another release of mkl"
        )


@functools.cache
def _file() -> Path | None:
    """Return the shared library of the package "mkl"; None if it is not installed."""
    try:
        files = metadata.files("mkl") or []
    except metadata.PackageNotFoundError:
        return None
    names = (file for file in files if file.name.startswith(("libmkl_rt.", "mkl_rt.")))
    return next((Path(str(file.locate())) for file in names if file.suffix != ".lib"), None)


@functools.cache
def _library() -> Any:
    """Load MKL and set it to one thread.

    Raises:
        MissingExtraError: MKL is not installed.
    """
    file = _file()
    if file is None:
        raise MissingExtraError("MKL is not installed; run: pip install mkl")
    library = ctypes.CDLL(str(file))
    library.MKL_Set_Num_Threads(1)
    return library


KERNEL = _Mkl()
