"""Read the operator domains and function names of an ONNX file without loading it.

This reads the outermost protobuf fields only and skips the graph. It takes microseconds for a file of any size, and
needs neither `onnx` nor `protobuf`.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from aerogel.errors import RuntimeLoadError
from aerogel.runtime import check_model

__all__ = ["DOMAIN", "SHARED_DATA", "OnnxFile", "external_data", "scan"]

DOMAIN = "aerogel"
"""Operator domain of the sparse functions."""

SHARED_DATA = "shared.data"
"""Name of the external data that several files in one folder share."""

# Field numbers of ModelProto, and of OperatorSetIdProto and FunctionProto inside it.
_GRAPH, _OPSET_IMPORT, _FUNCTION, _OPSET_DOMAIN, _FUNCTION_NAME = 7, 8, 25, 1, 1
# A domain or a name takes a few dozen bytes; a longer field is something else.
_TEXT_LIMIT = 4096


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file.

    Attributes:
        path: the file.
        domains: operator domains that it imports; "" is ONNX's own.
        size: bytes of the file and its external data.
        functions: names of the functions that it defines.
    """

    path: Path
    domains: frozenset[str]
    size: int
    functions: frozenset[str] = frozenset()

    @property
    def sparse(self) -> bool:
        """Whether the model calls sparse functions, for which the native library has kernels."""
        return DOMAIN in self.domains


def scan(path: Path) -> OnnxFile:
    """Check that `path` is an ONNX file, and read its operator domains and function names.

    Raises:
        RuntimeLoadError: the file is missing, not ONNX, or truncated.
    """
    check_model(path)
    size = path.stat().st_size
    domains, functions, graph = set(), set(), False
    with path.open("rb") as stream:
        try:
            while stream.tell() < size:
                field, length = _field(stream, size)
                graph = graph or field == _GRAPH
                if field == _OPSET_IMPORT and length <= _TEXT_LIMIT:
                    domains.add(_text(stream, stream.tell() + length, _OPSET_DOMAIN))
                elif field == _FUNCTION:
                    functions.add(_text(stream, stream.tell() + length, _FUNCTION_NAME))
                else:
                    stream.seek(length, 1)
        except ValueError as error:
            raise RuntimeLoadError(
                f"{path} is not an ONNX file, or is truncated ({error}); export it again"
            ) from error
    if not graph or not domains:
        raise RuntimeLoadError(
            f"{path} is not an ONNX file (it has no graph or no opset); give an exported .onnx file"
        )
    return OnnxFile(
        path,
        frozenset(domains),
        size + sum(file.stat().st_size for file in external_data(path)),
        frozenset(functions),
    )


def external_data(path: Path) -> list[Path]:
    """Return the external data files in the folder of the model `path`, found by their names."""
    names = (f"{path.name}.data", f"{path.name}_data", SHARED_DATA)
    return [file for name in names if (file := path.with_name(name)).is_file()]


def _text(stream: BufferedReader, end: int, wanted: int) -> str:
    """Return the text of field `wanted` in the message that ends at `end`, and move the stream to `end`."""
    text = b""
    while stream.tell() < end:
        field, length = _field(stream, end)
        if field == wanted:
            if length > _TEXT_LIMIT:
                raise ValueError(f"a name of {length} bytes")
            text = stream.read(length)
        else:
            stream.seek(length, 1)
    return text.decode("utf-8")


def _field(stream: BufferedReader, end: int) -> tuple[int, int]:
    """Return the number of the next field and the length of its content, which must end by `end`."""
    key = _varint(stream)
    field, wire = key >> 3, key & 7
    if field == 0:
        raise ValueError("field number 0")
    if wire == 0:
        start = stream.tell()
        _varint(stream)
        length = stream.tell() - start
        stream.seek(start)
    elif wire == 2:
        length = _varint(stream)
    elif wire in (1, 5):
        length = 8 if wire == 1 else 4
    else:
        raise ValueError(f"wire type {wire}")
    if stream.tell() + length > end:
        raise ValueError(f"field {field} runs past the end")
    return field, length


def _varint(stream: BufferedReader) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise ValueError("unexpected end")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("number of more than 64 bits")
