"""Weights that stay in their .onnx file while the model runs.

ONNX Runtime copies every initializer inside a model's protobuf message. It maps external data: pages come into memory
when they are read, and the system may drop them again. So `externalize_initializers` copies the message and makes each
large tensor external data of its own .onnx file. `align_initializers` writes a file whose tensors begin at multiples of
`ALIGNMENT`, as kernels want them.

This module knows only a few field numbers of ONNX, so that it does not need the onnx package:

    ModelProto.graph = 7    GraphProto.initializer = 5
    TensorProto: raw_data = 9, doc_string = 12, external_data = 13, data_location = 14
    StringStringEntryProto: key = 1, value = 2
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, overload

__all__ = ["ALIGNMENT", "LEAST", "align_initializers", "external_files", "externalize_initializers"]

ALIGNMENT = 64
"""Bytes: a line of the caches, and a vector of the widest instruction set."""

LEAST = 1 << 16
"""Bytes from which on a tensor is large. Small ones may be shapes and axes, which ONNX Runtime wants to read early."""

_GRAPH, _INITIALIZER = 7, 5
_RAW, _DOC, _EXTERNAL, _LOCATION = 9, 12, 13, 14
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
# Bytes of a file that are read at once: a page.
_BLOCK = 4096


class _Field(NamedTuple):
    """One field of a message: its number, and where it begins, where its value does and where both end."""

    number: int
    begin: int
    value: int
    end: int
    kind: int


class _File:
    """A file as a sequence of bytes, read in blocks.

    A mapping would be simpler, but reading it kills the process with SIGBUS where another program truncates the file.
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
                raise ValueError("the file is cut off")
            parts.append(part)
            begin += len(part)
        return b"".join(parts)


Data = bytes | _File


def externalize_initializers(path: Path) -> bytes | None:
    """The model of a file, its large aligned tensors replaced by their positions in that file.

    Args:
        path: an .onnx file, and not a symbolic link: its name becomes the location of its tensors.

    Returns:
        A serialized ModelProto, or None where the file has no such tensors, has external data already, or is not a
        model; ONNX Runtime then says what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            return _pointing(_File(file.fileno()), path.name.encode())
    except (ValueError, OSError):
        return None


def external_files(path: Path) -> set[str]:
    """The locations of a model's external data: paths relative to its folder, as its graph's initializers name them.

    Args:
        path: an .onnx file; one that cannot be read, or is not a model, has none.
    """
    try:
        with path.open("rb") as file:
            return set(_locations(_File(file.fileno())))
    except (ValueError, OSError):
        return set()


def align_initializers(data: bytes) -> bytes:
    """The same model with the bytes of large tensors at multiples of `ALIGNMENT`, behind spaces in a doc_string.

    Args:
        data: a serialized ModelProto with one graph.

    Raises:
        ValueError: it is none.
    """
    graph = _one(data, _GRAPH)
    before, after = data[: graph.begin], data[graph.end :]
    # The length of the graph stands before it and depends on what is put into it.
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


def _pointing(data: Data, name: bytes) -> bytes | None:
    graph = _one(data, _GRAPH)
    parts, found = [], False
    for field in _fields(data, graph.value, graph.end):
        if field.number == _INITIALIZER and _external(data, field):
            # ONNX Runtime looks for all external data in one folder. It may not be this file's.
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
                if field.kind == _BYTES
            }
            if pair.get(_KEY) == b"location":
                yield os.fsdecode(pair.get(_VALUE, b""))


def _external(data: Data, tensor: _Field) -> list[_Field]:
    """What a tensor says of its external data: fields of one key and value each."""
    fields = _fields(data, tensor.value, tensor.end)
    return [field for field in fields if field.number == _EXTERNAL and field.kind == _BYTES]


def _aligned_tensor(data: bytes, field: _Field, position: int) -> bytes:
    """An initializer that will begin at `position`, with spaces before its bytes."""
    raw = _raw(data, field)
    if raw is None:
        return data[field.begin : field.end]
    rest = b"".join(
        data[other.begin : other.end]
        for other in _fields(data, field.value, field.end)
        if other.number not in (_RAW, _DOC)
    )
    # All of the tensor but its bytes, which are copied once: there may be a hundred megabytes of them.
    for spaces in range(2 * ALIGNMENT):
        body = rest + _message(_DOC, b" " * spaces) + data[raw.begin : raw.value]
        start = _tag(_INITIALIZER) + _varint(len(body) + raw.end - raw.value) + body
        if (position + len(start)) % ALIGNMENT == 0:
            return start + data[raw.value : raw.end]
    raise AssertionError("some number of spaces below the alignment fits, or one beyond a longer length")


def _raw(data: Data, tensor: _Field) -> _Field | None:
    """The raw_data of an initializer, if it has at least `LEAST` bytes."""
    fields = list(_fields(data, tensor.value, tensor.end))
    if any(field.number in (_EXTERNAL, _LOCATION) for field in fields):
        return None
    found = [field for field in fields if field.number == _RAW and field.kind == _BYTES]
    return found[0] if len(found) == 1 and found[0].end - found[0].value >= LEAST else None


def _one(data: Data, number: int) -> _Field:
    found = [field for field in _fields(data, 0, len(data)) if field.number == number]
    if len(found) != 1 or found[0].kind != _BYTES:
        raise ValueError(f"{len(found)} fields {number}")
    return found[0]


def _fields(data: Data, begin: int, end: int) -> Iterator[_Field]:
    """The fields of a message; ValueError where it is none."""
    while begin < end:
        tag, value = _read_varint(data, begin, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            after = _read_varint(data, value, end)[1]
        elif kind == _BYTES:
            length, value = _read_varint(data, value, end)
            after = value + length
        elif kind in (_EIGHT, _FOUR):
            after = value + (8 if kind == _EIGHT else 4)
        else:
            raise ValueError(f"wire type {kind}")
        if after > end:
            raise ValueError("a field is cut off")
        yield _Field(number, begin, value, after, kind)
        begin = after


def _read_varint(data: Data, position: int, end: int) -> tuple[int, int]:
    """A number and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number has no end")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _tag(number: int, kind: int = _BYTES) -> bytes:
    return _varint(number << 3 | kind)


def _message(number: int, value: bytes) -> bytes:
    return _tag(number) + _varint(len(value)) + value
