"""Python bindings of the native library's C interface (src/c_api.h), through ctypes."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from aerogel.errors import FormatError, RuntimeLoadError, UsageError
from aerogel.kernels.cpu.library import LIBRARY_VARIABLE, library_path
from aerogel.system.threads import check_threads

__all__ = ["Isa", "MatrixStats", "SparseLinear", "check_selection", "isas", "matrix_stats", "selected"]

_ERROR_BYTES = 512
# Return value of aerogel_linear_run for invalid buffers.
_INVALID_BUFFERS = 2
# Numbers of the value types in the C interface.
_DTYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.int8): 2}


class _Matrix(ctypes.Structure):
    """AerogelMatrix of src/c_api.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("out_features", "in_features", "block_rows", "block_cols", "entries")),
        *((name, ctypes.c_int) for name in ("dtype", "wide_indices")),
        *((name, ctypes.c_void_p) for name in ("data", "indices", "indptr", "scale", "bias")),
    )  # fmt: skip


@dataclass(frozen=True)
class MatrixStats:
    """Sizes of a sparse matrix as the library packs it on this machine; AerogelMatrixStats of src/c_api.h.

    Attributes:
        panel_rows: rows of a panel: 1, 2 or 4.
        column_features: features per column: 1, or 4 for int8 values.
        chunks: number of row ranges, the unit of parallel work.
        tiles: number of column ranges whose activations stay in the L1 cache.
        groups: number of distinct panel lengths, summed over all chunks and tiles.
        panels: number of non-empty panels, summed over all chunks and tiles.
        slots: stored pairs (panel, column), each with ``panel_rows * column_features`` values.
        all_slots: slots of a dense matrix of the same shape.
        padding: values in stored slots that the matrix does not store.
        bytes: bytes of the matrix that one product reads.
    """

    panel_rows: int
    column_features: int
    chunks: int
    tiles: int
    groups: int
    panels: int
    slots: int
    all_slots: int
    padding: int
    bytes: int


class _Stats(ctypes.Structure):
    _fields_ = tuple((field.name, ctypes.c_int64) for field in fields(MatrixStats))


@dataclass(frozen=True)
class Isa:
    """An instruction set of the library.

    Attributes:
        name: name, such as scalar, avx2 or neondot.
        available: whether this build and this machine support it.
        reason: why it is not available; empty if it is.
    """

    name: str
    available: bool
    reason: str


def isas() -> list[Isa]:
    """List all instruction sets of the library, from the slowest to the fastest."""
    library = _library()
    found = []
    for i in range(library.aerogel_isa_count()):
        reason = ctypes.c_char_p()
        name = library.aerogel_isa(i, ctypes.byref(reason))
        text = (reason.value or b"").decode()
        found.append(Isa(name.decode(), not text, text))
    return found


def selected() -> str:
    """Return the name of the instruction set in use: AEROGEL_ISA, or the fastest available.

    Raises:
        UsageError: AEROGEL_ISA names an instruction set that is unknown or not available.
    """
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    name = _library().aerogel_isa_selected(error, _ERROR_BYTES)
    if name is None:
        raise UsageError(error.value.decode())
    return str(name.decode())


def check_selection() -> None:
    """Check AEROGEL_ISA before long work. Without a native library there is nothing to check.

    Raises:
        UsageError: AEROGEL_ISA names an instruction set that is unknown or not available.
    """
    with contextlib.suppress(RuntimeLoadError):
        selected()


def matrix_stats(arrays: Mapping[str, np.ndarray], in_features: int, isa: str | None = None) -> MatrixStats:
    """Return the sizes of a sparse matrix as the library packs it on this machine.

    Args:
        arrays: data, indices and indptr, see `SparseLinear`.
        in_features: columns of the matrix.
        isa: instruction set to pack for. Default: `selected()`.

    Raises:
        FormatError: the arrays are malformed.
        UsageError: `isa` or AEROGEL_ISA names an instruction set that is unknown or not available.
        RuntimeLoadError: the native library is not built.
    """
    library = _library()
    data, indices, indptr = _check_arrays(arrays)
    _check_in_features(in_features)
    data, indices, indptr = (np.require(array, requirements=("C", "A")) for array in (data, indices, indptr))
    found = _Stats()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    matrix = _matrix(data, indices, indptr, in_features, None, None)
    if library.aerogel_matrix_stats(
        ctypes.byref(matrix), isa.encode() if isa else None, ctypes.byref(found), error, _ERROR_BYTES
    ):
        raise _matrix_error(isa, error.value.decode())
    return MatrixStats(**{field.name: getattr(found, field.name) for field in fields(MatrixStats)})


class SparseLinear:
    """y = x W^T + b on the CPU, with W in CSR or BSR.

    Args:
        arrays: CSR data ``[nnz]`` or BSR data ``[blocks, r, c]``, float32, float16 or int8; indices, uint16 or int32;
            indptr, int32. int8 data in [-127, 127] also needs scale, float32 ``[out_features]``; activations are then
            quantized to int8 too, per token.
        bias: float32 ``[out_features]``. Default: zeros.
        in_features: columns of W, at most 1,048,576.
        isa: instruction set to use. Default: `selected()`.

    Raises:
        FormatError: the arrays are malformed.
        UsageError: `isa` or AEROGEL_ISA names an instruction set that is unknown or not available.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        bias: np.ndarray | None,
        in_features: int,
        isa: str | None = None,
    ) -> None:
        data, indices, indptr = _check_arrays(arrays)
        rows = (data.shape[1:] or (1, 1))[0]
        self.in_features = in_features
        self.out_features = (len(indptr) - 1) * rows
        vectors = {"bias": np.zeros(self.out_features, np.float32) if bias is None else bias}
        if data.dtype == np.int8:
            if "scale" not in arrays:
                raise FormatError(f"scale is missing; int8 data needs float32 [{self.out_features}]")
            vectors["scale"] = arrays["scale"]
        for name, vector in vectors.items():
            if vector.dtype != np.float32 or vector.shape != (self.out_features,):
                raise FormatError(
                    f"{name} must be float32 [{self.out_features}], not {vector.dtype}{list(vector.shape)}"
                )
        _check_in_features(in_features)
        # Only the data may be unaligned.
        data = np.ascontiguousarray(data)
        indices, indptr = (np.require(array, requirements=("C", "A")) for array in (indices, indptr))
        vectors = {name: np.require(vector, requirements=("C", "A")) for name, vector in vectors.items()}
        pointers = {name: vector.ctypes.data for name, vector in vectors.items()}
        # The library may read this memory as long as the layer lives.
        self._data = data
        matrix = _matrix(data, indices, indptr, in_features, pointers.get("scale"), pointers["bias"])
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._handle = _library().aerogel_linear_create(
            ctypes.byref(matrix), isa.encode() if isa else None, error, _ERROR_BYTES
        )
        if not self._handle:
            raise _matrix_error(isa, error.value.decode())
        weakref.finalize(self, _library().aerogel_linear_destroy, self._handle)

    def __call__(self, x: np.ndarray, threads: int = 1, out: np.ndarray | None = None) -> np.ndarray:
        """Compute y float32 ``[..., out_features]`` from x float32 ``[..., in_features]``.

        Args:
            x: input.
            threads: number of threads.
            out: contiguous array for the result. Default: a new array.

        Raises:
            FormatError: x or out has another dtype or shape, or out is not writable or overlaps x.
            UsageError: `threads` is not an integer from 1 to 1024.
            MemoryError: the working memory cannot be allocated.
        """
        if x.dtype != np.float32 or x.ndim == 0 or x.shape[-1] != self.in_features:
            raise FormatError(f"x must be float32 [..., {self.in_features}], not {x.dtype}{list(x.shape)}")
        shape = (*x.shape[:-1], self.out_features)
        y = np.empty(shape, np.float32) if out is None else out
        if y.dtype != np.float32 or y.shape != shape or not y.flags.c_contiguous:
            raise FormatError(f"out must be contiguous float32 {list(shape)}, not {y.dtype}{list(y.shape)}")
        if not (y.flags.writeable and y.flags.aligned) or np.may_share_memory(x, y):
            raise FormatError(
                "out must be writable, aligned and must not overlap x; pass np.empty of its shape"
            )
        check_threads(threads)
        x = np.require(x, requirements=("C", "A"))
        self.run(x.ctypes.data, x.size // self.in_features, y.ctypes.data, threads)
        return y

    def run(self, x: int, tokens: int, y: int, threads: int) -> None:
        """Compute `tokens` contiguous float32 rows from address `x` to address `y`.

        Fast and mostly unchecked, for callers that manage memory themselves and run small layers in microseconds.

        Raises:
            FormatError: an address is 0 or not a multiple of 4, or `tokens` is negative.
            MemoryError: the working memory cannot be allocated.
        """
        status = _library().aerogel_linear_run(self._handle, x, tokens, y, threads)
        if status == _INVALID_BUFFERS:
            raise FormatError(
                f"invalid buffers x {x:#x} and y {y:#x} for {tokens} tokens; addresses must be multiples of 4"
            )
        if status:
            raise MemoryError(f"cannot allocate the working memory for {tokens} tokens")


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check dtypes and shapes of a CSR or BSR matrix; return data, indices and indptr."""
    if missing := [name for name in ("data", "indices", "indptr") if name not in arrays]:
        raise FormatError(f"{missing[0]} is missing; pass data, indices and indptr")
    data, indices, indptr = arrays["data"], arrays["indices"], arrays["indptr"]
    if data.dtype not in _DTYPES or data.ndim not in (1, 3):
        raise FormatError(
            f"data must be float32, float16 or int8 [nnz] or [blocks, r, c], not {data.dtype}{list(data.shape)}"
        )
    if indices.dtype not in (np.uint16, np.int32) or indices.shape != data.shape[:1]:
        raise FormatError(
            f"indices must be uint16 or int32 [{len(data)}], not {indices.dtype}{list(indices.shape)}"
        )
    if indptr.dtype != np.int32 or indptr.ndim != 1 or len(indptr) < 2:
        raise FormatError(
            f"indptr must be int32 with 2 or more entries, not {indptr.dtype}{list(indptr.shape)}"
        )
    return data, indices, indptr


def _check_in_features(in_features: object) -> None:
    if type(in_features) is not int or not 1 <= in_features < 2**31:
        raise FormatError(f"in_features must be an integer from 1 to 2147483647, not {in_features!r}")


def _matrix(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    in_features: int,
    scale: int | None,
    bias: int | None,
) -> _Matrix:
    """Build the C structure of checked arrays, which must outlive it. `scale` and `bias` are addresses."""
    rows, cols = data.shape[1:] or (1, 1)
    return _Matrix(
        (len(indptr) - 1) * rows, in_features, rows, cols, len(data), _DTYPES[data.dtype], indices.dtype == np.int32,
        data.ctypes.data, indices.ctypes.data, indptr.ctypes.data, scale, bias,
    )  # fmt: skip


def _matrix_error(isa: str | None, reason: str) -> FormatError | UsageError:
    """Make the error for a rejected matrix, or for an instruction set that is not available."""
    named = isa or selected()
    available = any(known.name == named and known.available for known in isas())
    return (FormatError if available else UsageError)(reason)


@functools.cache
def _library() -> ctypes.CDLL:
    path = library_path()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise RuntimeLoadError(f"{path} cannot be loaded: {error}") from error
    if not hasattr(library, "aerogel_isa"):
        raise RuntimeLoadError(f"{path} is not Aerogel's native library; unset or correct {LIBRARY_VARIABLE}")
    if not hasattr(library, "aerogel_matrix_stats"):
        raise RuntimeLoadError(
            f"{path} belongs to another version of Aerogel; reinstall aerogel, or unset {LIBRARY_VARIABLE}"
        )
    pointer, size, integer, text = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_char_p
    library.aerogel_isa.restype = text
    library.aerogel_isa_selected.restype = text
    library.aerogel_isa_selected.argtypes = [text, ctypes.c_size_t]
    library.aerogel_matrix_stats.argtypes = [pointer, text, pointer, text, ctypes.c_size_t]
    library.aerogel_linear_create.restype = pointer
    library.aerogel_linear_create.argtypes = [pointer, text, text, ctypes.c_size_t]
    library.aerogel_linear_run.argtypes = [pointer, pointer, size, pointer, integer]
    library.aerogel_linear_destroy.argtypes = [pointer]
    library.aerogel_linear_destroy.restype = None
    return library
