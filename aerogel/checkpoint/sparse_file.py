"""A sparse checkpoint in one .safetensors file: packed matrices, and every other parameter as it is.

The packed matrix NAME is stored as the tensors ``NAME.data``, ``NAME.indices``, ``NAME.indptr`` and, with int8 values,
``NAME.scale``: the arrays of its format (`aerogel.sparse.formats`). The file's metadata has one entry, ``aerogel``, a
JSON object: ``schema``, and ``matrices`` with ``shape``, ``format`` and ``arrays`` (the last parts of their names) of
each packed matrix. ``docs/reference/file-formats.md`` has a reader of twenty lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.errors import CheckpointError, FormatError, UsageError, require
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS
from aerogel.system.json_fields import Each, MalformedJsonError, Number, check, parse

__all__ = ["Packed", "is_sparse_file", "read_sparse_file", "write_sparse_file"]

SCHEMA = 1
_KEY = "aerogel"
_MAX_SIDE = 1 << 24
_SCHEMA = {
    "schema": int,
    "matrices": Each({"shape": (Number(int, 1, _MAX_SIDE),) * 2, "format": str, "arrays": [str]}),
}

Packed = tuple[str, tuple[int, int], Arrays]
"""Format, shape (out, in), and arrays of a packed matrix."""


def write_sparse_file(path: Path, parameters: Mapping[str, np.ndarray], packed: Mapping[str, Packed]) -> None:
    """Write a sparse checkpoint; equal arguments give equal bytes.

    Args:
        path: the file to create.
        parameters: the parameters that are not packed, by name.
        packed: the packed matrices, by name.

    Raises:
        CheckpointError: two tensors would have the same name.
    """
    safetensors = require("safetensors.numpy", "export")
    tensors = {name: np.ascontiguousarray(value) for name, value in parameters.items()}
    matrices = {}
    for name, (form, shape, arrays) in packed.items():
        matrices[name] = {"shape": list(shape), "format": form, "arrays": list(arrays)}
        for key, array in arrays.items():
            if f"{name}.{key}" in tensors or name in tensors:
                raise CheckpointError(f"the model has two parameters that would be stored as {name}.{key}")
            tensors[f"{name}.{key}"] = np.ascontiguousarray(array)
    # One entry, because the order of several is not fixed.
    metadata = {_KEY: json.dumps({"schema": SCHEMA, "matrices": matrices}, sort_keys=True)}
    safetensors.save_file(tensors, path, metadata=metadata)


def is_sparse_file(path: Path) -> bool:
    """Whether a file is a .safetensors file with the metadata of a sparse checkpoint."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    safetensors = require("safetensors", "export")
    try:
        with safetensors.safe_open(str(path), framework="numpy") as opened:
            return _KEY in (opened.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False


def read_sparse_file(path: Path) -> dict[str, np.ndarray]:
    """All parameters of a sparse checkpoint, dense; packed matrices are float32 ``[out, in]``.

    Raises:
        CheckpointError: the file is damaged, has another schema, or an array breaks its format; names the tensor.
    """
    safetensors = require("safetensors", "export")
    try:
        with safetensors.safe_open(str(path), framework="numpy") as opened:
            text = (opened.metadata() or {}).get(_KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); write the checkpoint again") from error
    matrices = _matrices(path, text)
    for name, entry in matrices.items():
        arrays = {}
        for key in entry["arrays"]:
            if f"{name}.{key}" not in tensors:
                raise CheckpointError(f"{path}: {name}.{key} is missing; write the checkpoint again")
            arrays[key] = tensors.pop(f"{name}.{key}")
        if name in tensors:
            raise CheckpointError(f"{path}: {name} is stored twice; write the checkpoint again")
        tensors[name] = _dense(path, name, entry, arrays)
    return tensors


def _matrices(path: Path, text: str | None) -> dict[str, Any]:
    """The checked metadata."""
    if text is None:
        raise CheckpointError(f"{path} has no metadata {_KEY!r}; it is not a sparse checkpoint")
    try:
        document = check(parse(text), _SCHEMA)
    except MalformedJsonError as error:
        raise CheckpointError(f"{path}: metadata {_KEY!r}: {error}; write the checkpoint again") from error
    if document["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path} has schema {document['schema']}, and this version reads {SCHEMA}; use a matching release"
        )
    return dict(document["matrices"])


def _dense(path: Path, name: str, entry: Mapping[str, Any], arrays: Arrays) -> np.ndarray:
    """One matrix, float32."""
    rows, cols = entry["shape"]
    try:
        form = FORMATS.get(entry["format"])
        if missing := next((key for key in form.names if key not in arrays), None):
            raise FormatError(f"{missing} is missing")
        dense = form.decode(arrays, (rows, cols)).astype(np.float32)
        if "scale" in arrays:
            scale = arrays["scale"]
            if scale.dtype != np.float32 or scale.shape != (rows,):
                raise FormatError(f"scale must be float32[{rows}], not {scale.dtype}{list(scale.shape)}")
            dense *= scale[:, None]
    except (FormatError, UsageError) as error:
        raise CheckpointError(f"{path}: {name}: {error}; write the checkpoint again") from error
    return dense
