"""Python bindings of the native library's C interface (src/c_api.h), by ctypes."""

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
# What aerogel_linear_run returns if it cannot use the buffers.
_UNFIT = 2
# The C interface's numbers of the types of stored values.
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
        column_features: features of a column: 1, or 4 of int8 values.
        chunks: pieces of rows, the unit of parallel work.
        tiles: pieces of columns whose activations stay in the first-level cache.
        groups: in each chunk and tile the different lengths of panels, added up.
        panels: in each chunk and tile the panels with an entry, added up.
        slots: stored pairs (panel, column), each with ``panel_rows * column_features`` values.
        all_slots: slots of the same matrix without a zero.
        padding: values of stored slots that the matrix does not store.
        bytes: bytes that one product reads of the matrix.
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
    """An instruction set the library knows.

    Attributes:
        name: such as scalar, avx2 or neondot.
        available: whether this build and this machine have it.
        reason: why not; empty where available.
    """

    name: str
    available: bool
    reason: str


def isas() -> list[Isa]:
    """All instruction sets the library knows, from the plainest to the fastest."""
    library = _library()
    found = []
    for i in range(library.aerogel_isa_count()):
        reason = ctypes.c_char_p()
        name = library.aerogel_isa(i, ctypes.byref(reason))
        text = (reason.value or b"").decode()
        found.append(Isa(name.decode(), not text, text))
    return found


def selected() -> str:
    """Name of the instruction set in use: the one that AEROGEL_ISA names, else the fastest available.

    Raises:
        UsageError: AEROGEL_ISA names an instruction set that is not known or not available.
    """
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    name = _library().aerogel_isa_selected(error, _ERROR_BYTES)
    if name is None:
        raise UsageError(error.value.decode())
    return str(name.decode())


def check_selection() -> None:
    """Refuse, before long work, an AEROGEL_ISA that no kernel could be chosen by; fine where there is no library.

    Raises:
        UsageError: AEROGEL_ISA names an instruction set that is not known or not available.
    """
    with contextlib.suppress(RuntimeLoadError):
        selected()


def matrix_stats(arrays: Mapping[str, np.ndarray], in_features: int, isa: str | None = None) -> MatrixStats:
    """Sizes of a sparse matrix as the library packs it on this machine.

    Args:
        arrays: data, indices and indptr, as `SparseLinear` has them.
        in_features: columns of the matrix.
        isa: instruction set to pack for; None for `selected()`.

    Raises:
        FormatError: the arrays are malformed.
        UsageError: `isa`, or AEROGEL_ISA, names an instruction set that is not known or not available.
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
        raise _refusal(isa, error.value.decode())
    return MatrixStats(**{field.name: getattr(found, field.name) for field in fields(MatrixStats)})


class SparseLinear:
    """y = x W^T + b on the CPU, with W in CSR or BSR.

    Args:
        arrays: CSR data ``[nnz]`` or BSR data ``[blocks, r, c]``, float32, float16 or int8; indices, uint16 or int32;
            indptr, int32; for int8 data in [-127, 127] also scale, float32 ``[out_features]``: activations are then
            rounded to eight bits as well, per token.
        bias: float32 ``[out_features]``, or None for zeros.
        in_features: columns of W, at most 1,048,576.
        isa: instruction set to use; None for `selected()`.

    Raises:
        FormatError: the arrays are malformed.
        UsageError: `isa`, or AEROGEL_ISA, names an instruction set that is not known or not available.
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
                raise FormatError(f"scale is missing; give float32 [{self.out_features}] with int8 data")
            vectors["scale"] = arrays["scale"]
        for name, vector in vectors.items():
            if vector.dtype != np.float32 or vector.shape != (self.out_features,):
                raise FormatError(
                    f"{name} must be float32 [{self.out_features}], not {vector.dtype}{list(vector.shape)}"
                )
        _check_in_features(in_features)
        # Only the data may have any address.
        data = np.ascontiguousarray(data)
        indices, indptr = (np.require(array, requirements=("C", "A")) for array in (indices, indptr))
        vectors = {name: np.require(vector, requirements=("C", "A")) for name, vector in vectors.items()}
        pointers = {name: vector.ctypes.data for name, vector in vectors.items()}
        # The library may point into it for as long as the layer lives.
        self._data = data
        matrix = _matrix(data, indices, indptr, in_features, pointers.get("scale"), pointers["bias"])
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._handle = _library().aerogel_linear_create(
            ctypes.byref(matrix), isa.encode() if isa else None, error, _ERROR_BYTES
        )
        if not self._handle:
            raise _refusal(isa, error.value.decode())
        weakref.finalize(self, _library().aerogel_linear_destroy, self._handle)

    def __call__(self, x: np.ndarray, threads: int = 1, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to float32 x ``[..., in_features]`` on `threads` threads; `out` may receive the result.

        Raises:
            FormatError: x or out has another dtype or shape, or out cannot be written in place or overlaps x.
            UsageError: `threads` is no integer from 1 to 1024.
            MemoryError: the working memory could not be had.
        """
        if x.dtype != np.float32 or x.ndim == 0 or x.shape[-1] != self.in_features:
            raise FormatError(f"x must be float32 [..., {self.in_features}], not {x.dtype}{list(x.shape)}")
        shape = (*x.shape[:-1], self.out_features)
        y = np.empty(shape, np.float32) if out is None else out
        if y.dtype != np.float32 or y.shape != shape or not y.flags.c_contiguous:
            raise FormatError(f"out must be contiguous float32 {list(shape)}, not {y.dtype}{list(y.shape)}")
        if not (y.flags.writeable and y.flags.aligned) or np.may_share_memory(x, y):
            raise FormatError(
                "out must be writable and aligned memory of its own; give np.empty of its shape"
            )
        check_threads(threads)
        x = np.require(x, requirements=("C", "A"))
        self.run(x.ctypes.data, x.size // self.in_features, y.ctypes.data, threads)
        return y

    def run(self, x: int, tokens: int, y: int, threads: int) -> None:
        """Apply to `tokens` float32 rows at address `x` and write theirs to address `y`; both without gaps.

        Little is checked: this is for callers that know their memory, and for whom a small layer is a matter of
        microseconds.

        Raises:
            FormatError: an address is 0 or no multiple of 4, or `tokens` is negative.
            MemoryError: the working memory could not be had.
        """
        failure = _library().aerogel_linear_run(self._handle, x, tokens, y, threads)
        if failure == _UNFIT:
            raise FormatError(
                f"x at {x:#x} and y at {y:#x} cannot be used for {tokens} tokens; give multiples of 4"
            )
        if failure:
            raise MemoryError(f"no working memory for {tokens} tokens")


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """data, indices and indptr, if their types and shapes are those of a CSR or BSR matrix."""
    if missing := [name for name in ("data", "indices", "indptr") if name not in arrays]:
        raise FormatError(f"{missing[0]} is missing; give data, indices and indptr")
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
            f"indptr must be int32 of 2 or more entries, not {indptr.dtype}{list(indptr.shape)}"
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
    """The C structure of checked arrays, which must outlive it; `scale` and `bias` are addresses."""
    rows, cols = data.shape[1:] or (1, 1)
    return _Matrix(
        (len(indptr) - 1) * rows, in_features, rows, cols, len(data), _DTYPES[data.dtype], indices.dtype == np.int32,
        data.ctypes.data, indices.ctypes.data, indptr.ctypes.data, scale, bias,
    )  # fmt: skip


def _refusal(isa: str | None, reason: str) -> FormatError | UsageError:
    """The error for what the library refused: the matrix, unless the instruction set cannot be used."""
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
            f"{path} is of another version of Aerogel; reinstall aerogel, or unset {LIBRARY_VARIABLE}"
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
