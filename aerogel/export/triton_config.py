"""config.pbtxt of a model in Triton Inference Server's model repository."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aerogel.errors import ExportError

__all__ = ["is_unedited", "triton_config"]

_TYPES = {
    "float32": "TYPE_FP32", "float16": "TYPE_FP16", "float64": "TYPE_FP64", "int64": "TYPE_INT64",
    "int32": "TYPE_INT32", "int8": "TYPE_INT8", "uint8": "TYPE_UINT8", "bool": "TYPE_BOOL",
}  # fmt: skip
_HEADER = "# Written by aerogel export. SHA-256 of the lines below: "
# Requests of one shape that Triton joins into a batch.
_MAX_BATCH = 64


def triton_config(name: str, manifest: Mapping[str, Any], library: str | None) -> str:
    """Text of config.pbtxt.

    Args:
        name: name of the model.
        manifest: the manifest of the model.
        library: path of the native library on the server; None for standard operators only.

    Raises:
        ExportError: a tensor has a type that Triton's ONNX Runtime backend lacks.
    """
    ports = [*manifest["inputs"], *manifest["outputs"]]
    # Triton leaves the batch dimension out of dims where it may choose the batch.
    batched = all(port["shape"] and isinstance(port["shape"][0], str) for port in ports)
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {_MAX_BATCH if batched else 0}",
        *(line for port in manifest["inputs"] for line in _port("input", port, batched)),
        *(line for port in manifest["outputs"] for line in _port("output", port, batched)),
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
    ]
    if batched:
        lines.append("dynamic_batching { }")
    if library is not None:
        lines.append(f"model_operations {{ op_library_filename: {json.dumps(library)} }}")
    text = "\n".join(lines) + "\n"
    return f"{_HEADER}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def is_unedited(text: str) -> bool:
    """Whether a config.pbtxt is one that an export wrote, and nobody has edited since."""
    header, _, rest = text.partition("\n")
    return header == _HEADER + hashlib.sha256(rest.encode()).hexdigest()


def _port(kind: str, port: Mapping[str, Any], batched: bool) -> list[str]:
    shape = port["shape"][1:] if batched else port["shape"]
    dims = ", ".join(str(side) if isinstance(side, int) else "-1" for side in shape)
    if port["dtype"] not in _TYPES:
        raise ExportError(f"{kind} {port['name']} is {port['dtype']}, which a Triton model cannot have")
    name, kind_of_value = json.dumps(port["name"]), _TYPES[port["dtype"]]
    return [f"{kind} [ {{ name: {name} data_type: {kind_of_value} dims: [ {dims} ] }} ]"]
