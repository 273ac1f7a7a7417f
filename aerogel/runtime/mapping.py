"""Map the weights of an .onnx file instead of copying them.

ONNX Runtime copies every initializer inside a model's protobuf message, but maps external data: pages are loaded when
they are read, and the system may drop them again. `externalize_initializers` therefore returns a copy of the message
in which each large tensor is external data of the .onnx file itself. `align_initializers` moves tensors to multiples of
`ALIGNMENT`, which the kernels require.

This module uses a few field numbers of ONNX and does not need the onnx package:

    ModelProto.graph = 7    GraphProto.initializer = 5
    TensorProto: raw_data = 9, doc_string = 12, external_data = 13, data_location = 14
    StringStringEntryProto: key = 1, value = 2
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, overload

__all__ = ["ALIGNMENT", "MIN_BYTES", "align_initializers", "external_files", "externalize_initializers"]

ALIGNMENT = 64
"""Bytes: the size of a cache line and of the widest vector."""

MIN_BYTES = 1 << 16
"""Bytes of the smallest tensor to map. Small tensors may be shapes and axes, which ONNX Runtime reads early."""

_GRAPH, _INITIALIZER = 7, 5
_RAW, _DOC, _EXTERNAL, _LOCATION = 9, 12, 13, 14
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
# Bytes to read at once: a page.
_BLOCK = 4096


class _Field(NamedTuple):
    """One field of a message: its number, offset, offset of its value, end and wire type."""

    number: int
    begin: int
    value: int
    end: int
    wire_type: int


class _File:
    """A file as a sequence of bytes, read in blocks.

    Not a mapping: if another program truncates the file, reading a mapping kills the process with SIGBUS.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._begin, self._block = 0, b""

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> bytes: ...
    def __getitem__(self, at: int | slice) -> int | bytes:
        if isinstance(at, slice):
            begin, end, _ = at.indices(self._size)
            return self._read(begin, end)
        if not self._begin <= at < self._begin + len(self._block):
            self._begin = at - at % _BLOCK
            self._block = self._read(self._begin, min(self._begin + _BLOCK, self._size))
        return self._block[at - self._begin]

    def _read(self, begin: int, end: int) -> bytes:
        parts = []
        while begin < end:
            part = os.pread(self._descriptor, end - begin, begin)
            if not part:
                raise ValueError("the file is truncated")
            parts.append(part)
            begin += len(part)
        return b"".join(parts)


Data = bytes | _File


def externalize_initializers(path: Path) -> bytes | None:
    """Replace the large aligned tensors of a model by references to its file.

    Args:
        path: an .onnx file, not a symbolic link, because its name becomes the location of the tensors.

    Returns:
        A serialized ModelProto; None if the file has no such tensors, already has external data, or is not a model, for
        which ONNX Runtime reports the error.
    """
    try:
        with path.open("rb") as file:
            return _externalize(_File(file.fileno()), path.name.encode())
    except (ValueError, OSError):
        return None


def external_files(path: Path) -> set[str]:
    """Locations of a model's external data, relative to its folder, as in the initializers of its graph.

    Args:
        path: an .onnx file; the result is empty if it cannot be read or is not a model.
    """
    try:
        with path.open("rb") as file:
            return set(_locations(_File(file.fileno())))
    except (ValueError, OSError):
        return set()


def align_initializers(data: bytes) -> bytes:
    """Move the bytes of large tensors to multiples of `ALIGNMENT`, by padding with spaces in their doc_string.

    Args:
        data: a serialized ModelProto with one graph.

    Returns:
        The serialized model, unchanged except for the doc_string of large tensors.

    Raises:
        ValueError: `data` is not a serialized model.
    """
    graph = _one(data, _GRAPH)
    before, after = data[: graph.begin], data[graph.end :]
    # The graph begins after its length, whose width depends on the padding; try every width.
    for width in range(1, 11):
        begin = len(before) + 1 + width
        parts, position = [], begin
        for field in _fields(data, graph.value, graph.end):
            part = data[field.begin : field.end]
            if field.number == _INITIALIZER:
                part = _aligned_tensor(data, field, position)
            parts.append(part)
            position += len(part)
        header = _varint(position - begin)
        if len(header) == width:
            return b"".join([before, _tag(_GRAPH), header, *parts, after])
    raise ValueError("the graph has no length")


def _externalize(data: Data, name: bytes) -> bytes | None:
    graph = _one(data, _GRAPH)
    parts, found = [], False
    for field in _fields(data, graph.value, graph.end):
        if field.number == _INITIALIZER and _external(data, field):
            # ONNX Runtime searches all external data in one folder, which may not be the folder of this file.
            return None
        raw = _raw(data, field) if field.number == _INITIALIZER else None
        if raw is None or raw.value % ALIGNMENT:
            parts.append(data[field.begin : field.end])
            continue
        found = True
        entries = {b"location": name, b"offset": b"%d" % raw.value, b"length": b"%d" % (raw.end - raw.value)}
        pairs = [
            _message(_EXTERNAL, _message(_KEY, key) + _message(_VALUE, value))
            for key, value in entries.items()
        ]
        tensor = b"".join(
            [
                data[field.value : raw.begin],
                data[raw.end : field.end],
                *pairs,
                _tag(_LOCATION, _VARINT) + b"\x01",
            ]
        )
        parts.append(_message(_INITIALIZER, tensor))
    if not found:
        return None
    return data[: graph.begin] + _message(_GRAPH, b"".join(parts)) + data[graph.end :]


def _locations(data: Data) -> Iterator[str]:
    graph = _one(data, _GRAPH)
    for tensor in _fields(data, graph.value, graph.end):
        if tensor.number != _INITIALIZER:
            continue
        for entry in _external(data, tensor):
            pair = {
                field.number: data[field.value : field.end]
                for field in _fields(data, entry.value, entry.end)
                if field.wire_type == _BYTES
            }
            if pair.get(_KEY) == b"location":
                yield os.fsdecode(pair.get(_VALUE, b""))


def _external(data: Data, tensor: _Field) -> list[_Field]:
    """The external_data entries of a tensor, each with one key and value."""
    fields = _fields(data, tensor.value, tensor.end)
    return [field for field in fields if field.number == _EXTERNAL and field.wire_type == _BYTES]


def _aligned_tensor(data: bytes, field: _Field, position: int) -> bytes:
    """An initializer for offset `position`, with spaces that align its bytes."""
    raw = _raw(data, field)
    if raw is None:
        return data[field.begin : field.end]
    rest = b"".join(
        data[other.begin : other.end]
        for other in _fields(data, field.value, field.end)
        if other.number not in (_RAW, _DOC)
    )
    # Build everything but the bytes of the tensor, which may be 100 MB and are copied only once.
    for spaces in range(2 * ALIGNMENT):
        body = rest + _message(_DOC, b" " * spaces) + data[raw.begin : raw.value]
        start = _tag(_INITIALIZER) + _varint(len(body) + raw.end - raw.value) + body
        if (position + len(start)) % ALIGNMENT == 0:
            return start + data[raw.value : raw.end]
    raise AssertionError("no padding aligns the tensor")


def _raw(data: Data, tensor: _Field) -> _Field | None:
    """The raw_data field of an initializer if it has at least `MIN_BYTES` bytes, else None."""
    fields = list(_fields(data, tensor.value, tensor.end))
    if any(field.number in (_EXTERNAL, _LOCATION) for field in fields):
        return None
    found = [field for field in fields if field.number == _RAW and field.wire_type == _BYTES]
    return found[0] if len(found) == 1 and found[0].end - found[0].value >= MIN_BYTES else None


def _one(data: Data, number: int) -> _Field:
    found = [field for field in _fields(data, 0, len(data)) if field.number == number]
    if len(found) != 1 or found[0].wire_type != _BYTES:
        raise ValueError(f"the message has {len(found)} fields {number}, not one")
    return found[0]


def _fields(data: Data, begin: int, end: int) -> Iterator[_Field]:
    """Yield the fields of a message; ValueError if it is malformed."""
    while begin < end:
        tag, value = _read_varint(data, begin, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            after = _read_varint(data, value, end)[1]
        elif wire_type == _BYTES:
            length, value = _read_varint(data, value, end)
            after = value + length
        elif wire_type in (_EIGHT, _FOUR):
            after = value + (8 if wire_type == _EIGHT else 4)
        else:
            raise ValueError(f"unknown wire type {wire_type}")
        if after > end:
            raise ValueError("a field is truncated")
        yield _Field(number, begin, value, after, wire_type)
        begin = after


def _read_varint(data: Data, position: int, end: int) -> tuple[int, int]:
    """A varint and the offset after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a varint is truncated")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _tag(number: int, wire_type: int = _BYTES) -> bytes:
    return _varint(number << 3 | wire_type)


def _message(number: int, value: bytes) -> bytes:
    return _tag(number) + _varint(len(value)) + value
