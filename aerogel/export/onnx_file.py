"""Read an .onnx file of any exporter, with its external data, and bring it to our operator set. It is not trusted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aerogel.errors import ExportError, require
from aerogel.ops.linear_function import DOMAIN, OPSET
from aerogel.system.printable import escaped

if TYPE_CHECKING:
    import onnx

__all__ = ["first_line", "read_onnx"]

_STANDARD = ("", "ai.onnx")
# Bytes of a tensor that converters and shape inference need not see: shapes and axes are smaller.
_LARGE = 4096
# ONNX Runtime's optimizer writes this operator into models of older operator sets, which do not have it.
_EARLY, _EARLY_DOMAIN = "LayerNormalization", "aerogel.early"


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an .onnx file and its external data; nothing in it is trusted.

    Raises:
        ExportError: it is damaged, its external data is missing or lies outside of its folder, it is an export of
            Aerogel already, or has operators that ONNX does not define.
    """
    library = require("onnx", "export")
    try:
        proto = library.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        raise ExportError(f"{path} is not an ONNX model ({first_line(error)}); export it again") from error
    if not proto.graph.node or not proto.opset_import:
        raise ExportError(f"{path} is not an ONNX model: it has no graph; export it again")
    if any(function.domain == DOMAIN for function in proto.functions) or any(
        node.domain == DOMAIN for node in proto.graph.node
    ):
        raise ExportError(
            f"{path} has operators of domain {DOMAIN!r}: it is an export already; give the model it was made from"
        )
    if proto.graph.sparse_initializer:
        raise ExportError(f"{path} has sparse initializers, which cannot be read; store its weights dense")
    _load_external(library, proto, path)
    for tensor in proto.graph.initializer:
        _check_size(library, tensor, path)
    try:
        if proto.functions:
            proto = require("onnx.inliner", "export").inline_local_functions(proto)
        with _weights_aside(library, proto) as light:
            converted = _at_our_opset(library, light)
            proto.CopyFrom(converted)
    except Exception as error:  # the checker, the converter and shape inference each raise their own
        raise ExportError(
            f"{path} cannot be brought to opset {OPSET} ({first_line(error)}); export it again"
        ) from error
    return cast("onnx.ModelProto", proto)


def first_line(error: Exception) -> str:
    """The first line of an error of another library, printable, cut to 300 characters."""
    return escaped((str(error).strip().splitlines() or [type(error).__name__])[0][:300])


def _at_our_opset(library: Any, proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model checked, in operator set `OPSET` or the newer one it has, with the shapes that can be inferred."""
    opset = next((entry.version for entry in proto.opset_import if entry.domain in _STANDARD), 0)
    early = (
        [n for n in proto.graph.node if n.op_type == _EARLY and n.domain in _STANDARD] if opset < 17 else []
    )
    for node in early:
        node.domain = _EARLY_DOMAIN
    if early:
        proto.opset_import.append(library.helper.make_opsetid(_EARLY_DOMAIN, 1))
    library.checker.check_model(proto)
    if opset < OPSET:
        proto = require("onnx.version_converter", "export").convert_version(proto, OPSET)
    for node in proto.graph.node:
        node.domain = "" if node.domain == _EARLY_DOMAIN else node.domain
    kept = [entry for entry in proto.opset_import if entry.domain != _EARLY_DOMAIN]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    inferred = require("onnx.shape_inference", "export").infer_shapes(proto, data_prop=True)
    return cast("onnx.ModelProto", inferred)


@contextmanager
def _weights_aside(library: Any, proto: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """The model with its large initializers as inputs, for steps that copy it or have a limit of 2 GB.

    On leaving, the initializers are again in `proto`, which may have been changed meanwhile.
    """
    large = [tensor for tensor in proto.graph.initializer if len(tensor.raw_data) > _LARGE]
    small = [tensor for tensor in proto.graph.initializer if len(tensor.raw_data) <= _LARGE]
    inputs = {value.name for value in proto.graph.input}
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    added = [tensor.name for tensor in large if tensor.name not in inputs]
    proto.graph.input.extend(
        library.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in large
        if tensor.name in added
    )
    proto.ir_version = max(proto.ir_version, 4)  # older ones list every initializer as an input
    try:
        yield proto
    finally:
        kept = [value for value in proto.graph.input if value.name not in added]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
        for tensor in large:
            # Field by field: a copy of a message has a limit of 2 GB.
            again = proto.graph.initializer.add(
                name=tensor.name, data_type=tensor.data_type, dims=tensor.dims
            )
            again.raw_data = tensor.raw_data


def _check_size(library: Any, tensor: onnx.TensorProto, path: Path) -> None:
    """A tensor has as many bytes as its shape needs."""
    try:
        kind = library.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError as error:
        raise ExportError(
            f"{path}: {escaped(tensor.name)} has the unknown type {tensor.data_type}"
        ) from error
    count = math.prod(tensor.dims)
    whole = tensor.data_type < library.TensorProto.UINT4  # smaller types share bytes
    if any(size < 0 for size in tensor.dims) or (
        whole and tensor.raw_data and len(tensor.raw_data) != count * kind.itemsize
    ):
        raise ExportError(
            f"{path}: {escaped(tensor.name)} has {len(tensor.raw_data):,} bytes, which do not fit its shape "
            f"{list(tensor.dims)}; export it again"
        )


def _load_external(onnx: Any, proto: onnx.ModelProto, path: Path) -> None:
    """Read tensors that lie in other files of the same folder."""
    helper = require("onnx.external_data_helper", "export")
    for tensor in helper._get_all_tensors(proto):
        if not helper.uses_external_data(tensor):
            continue
        name = escaped(tensor.name)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            raise ExportError(f"{path}: {name} lies in {location!r}, outside of the model's folder")
        file = path.parent / location
        if not file.is_file():
            raise ExportError(
                f"{path}: {name} lies in {escaped(str(file))}, which does not exist; put it beside the model"
            )
        offset, length = (entries.get(key, "0") for key in ("offset", "length"))
        if not (offset.isdecimal() and length.isdecimal()) or int(offset) + int(length) > file.stat().st_size:
            raise ExportError(f"{escaped(str(file))} is too short for {name} of {path.name}; copy it again")
        with file.open("rb") as stream:
            stream.seek(int(offset))
            tensor.raw_data = stream.read(int(length)) if int(length) else stream.read()
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
