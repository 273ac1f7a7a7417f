"""Arrays from and to the two encodings of the protocol: JSON lists and binary tensors.

A binary tensor has its values in row-major order, little-endian, without padding. BOOL is a byte 0 or 1. BYTES has, for
each element, its length as a 32-bit unsigned integer and its bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from aerogel.serve.oip.datatypes import BYTES, DTYPES, InferenceError

__all__ = ["check_shape", "from_binary", "from_json", "to_binary", "to_json"]

# Limits of a shape: NumPy has at least 32 dimensions, and the product of the sizes must not overflow.
_MAX_DIMENSIONS = 16
_MAX_ELEMENTS = 1 << 40
_LENGTH = struct.Struct("<I")


def check_shape(name: str, shape: Sequence[int]) -> int:
    """Number of elements of a shape.

    Args:
        name: tensor, for messages.
        shape: sizes, integers.

    Raises:
        InferenceError: a size is negative, or the shape is too large.
    """
    if len(shape) > _MAX_DIMENSIONS:
        raise InferenceError(f"input {name}: {len(shape)} dimensions; the limit is {_MAX_DIMENSIONS}")
    if any(size < 0 for size in shape):
        raise InferenceError(f"input {name}: the shape {list(shape)} has a negative size")
    # Sizes next to a zero count too: NumPy multiplies them.
    if math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        raise InferenceError(f"input {name}: the shape {list(shape)} is too large")
    return math.prod(shape)


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> np.ndarray:
    """An array from a JSON list, nested as the shape or flat.

    Raises:
        InferenceError: the list has another number of elements or another nesting, or an element is not of the type.
    """
    count = check_shape(name, shape)
    flat = _flat(name, shape, data) if data and isinstance(data[0], list) else data
    if len(flat) != count:
        raise InferenceError(f"input {name}: {len(flat)} elements, but the shape {list(shape)} has {count}")
    return _values(name, datatype, flat).reshape(shape)


def from_binary(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> np.ndarray:
    """An array from a binary tensor.

    Raises:
        InferenceError: the number of bytes is not that of the shape, or an element is not of the type.
    """
    count = check_shape(name, shape)
    if datatype == BYTES:
        return _strings(name, count, memoryview(data)).reshape(shape)
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise InferenceError(
            f"input {name}: {len(data)} bytes, but {datatype} of the shape {list(shape)} has {count * dtype.itemsize}"
        )
    if datatype == "BOOL":
        numbers = np.frombuffer(data, np.uint8)
        if (numbers > 1).any():
            raise InferenceError(f"input {name}: a BOOL must be a byte 0 or 1")
        return numbers.astype(np.bool_).reshape(shape)
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def to_json(name: str, array: np.ndarray) -> Any:
    """The elements of an array as a flat list or array for orjson.

    Raises:
        InferenceError: an element has no JSON form: NaN, an infinity, or bytes that are not UTF-8.
    """
    flat = array.ravel()
    if array.dtype == object:
        try:
            return [_bytes(item).decode() for item in flat]
        except UnicodeDecodeError as error:
            raise InferenceError(
                f"output {name}: not UTF-8, so it has no JSON form; request binary_data"
            ) from error
    if array.dtype.kind == "f" and not np.isfinite(flat).all():
        raise InferenceError(
            f"output {name}: a value is NaN or infinite and has no JSON form; check the inputs, or request binary_data"
        )
    if array.dtype == np.float16:
        flat = flat.astype(np.float32)
    return np.ascontiguousarray(flat)


def to_binary(array: np.ndarray) -> bytes:
    """The binary tensor of an array."""
    if array.dtype == object:
        items = [_bytes(item) for item in array.ravel()]
        return b"".join(part for item in items for part in (_LENGTH.pack(len(item)), item))
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _flat(name: str, shape: Sequence[int], data: Any) -> list[Any]:
    """The elements of lists nested as `shape`."""
    level: list[Any] = [data]
    for size in shape:
        following: list[Any] = []
        for item in level:
            if not isinstance(item, list) or len(item) != size:
                raise InferenceError(
                    f"input {name}: data is neither flat nor nested as the shape {list(shape)}"
                )
            following += item
        level = following
    return level


def _values(name: str, datatype: str, flat: list[Any]) -> np.ndarray:
    dtype = DTYPES[datatype]
    kinds = set(map(type, flat))
    if datatype == BYTES:
        _check_kinds(name, datatype, kinds, {str}, "text")
        return _objects([_utf8(name, item) for item in flat])
    if datatype == "BOOL":
        _check_kinds(name, datatype, kinds, {bool}, "true or false")
    elif dtype.kind in "iu":
        _check_kinds(name, datatype, kinds, {int}, "integers")
        limits: np.iinfo[Any] = np.iinfo(dtype.str)
        if flat and not (limits.min <= min(flat) and max(flat) <= limits.max):
            raise InferenceError(f"input {name}: a number is out of the range of {datatype}")
    else:
        _check_kinds(name, datatype, kinds, {int, float}, "numbers")
        with np.errstate(over="ignore"):
            floats = np.array(flat, np.float64).astype(dtype)
        if not np.isfinite(floats).all():
            raise InferenceError(f"input {name}: a number is out of the range of {datatype}")
        return floats
    return np.array(flat, dtype)


def _check_kinds(name: str, datatype: str, kinds: set[type], known: set[type], words: str) -> None:
    if kinds - known:
        raise InferenceError(f"input {name}: data of type {datatype} must be {words}")


def _strings(name: str, count: int, data: memoryview) -> np.ndarray:
    # Each element has at least its length, so that a shape cannot ask for more than the bytes that were sent.
    if len(data) < count * _LENGTH.size:
        raise InferenceError(f"input {name}: {len(data)} bytes are too few for {count} elements of BYTES")
    found: list[bytes] = []
    position = 0
    for _ in range(count):
        begin = position + _LENGTH.size
        if begin > len(data):
            raise InferenceError(f"input {name}: the bytes end inside of element {len(found)}")
        position = begin + _LENGTH.unpack(data[begin - _LENGTH.size : begin])[0]
        if position > len(data):
            raise InferenceError(f"input {name}: the bytes end inside of element {len(found)}")
        found.append(bytes(data[begin:position]))
    if position != len(data):
        raise InferenceError(f"input {name}: {len(data) - position} bytes after the last of {count} elements")
    return _objects(found)


def _objects(items: list[bytes]) -> np.ndarray:
    # np.array would make an array of fixed-size strings, which lose their trailing zeros.
    found = np.empty(len(items), object)
    found[:] = items
    return found


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InferenceError(f"input {name}: half of a surrogate pair is not a character") from error


def _bytes(item: Any) -> bytes:
    return item.encode() if isinstance(item, str) else bytes(item)
