"""Weights of a model that is too large for one .onnx file, in a second file beside it.

The second file is called by its contents, ``model.onnx.1a2b3c4d5e6f.data``: a new export never changes the file that a
model in use reads.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.runtime.mapping import ALIGNMENT

if TYPE_CHECKING:
    import onnx

__all__ = ["move_weights"]

# Smaller tensors stay in the model: they may be shapes and axes, which ONNX Runtime reads early.
_LEAST = 4096


def move_weights(proto: onnx.ModelProto, path: Path) -> Path:
    """Move the large initializers of a model to a new file beside `path`, at multiples of `ALIGNMENT`; returns it."""
    import onnx

    large = [tensor for tensor in proto.graph.initializer if len(tensor.raw_data) >= _LEAST]
    digest, unnamed = hashlib.sha256(), f"{path.name}.data"
    places = []
    with path.with_name(unnamed).open("wb") as stream:
        for tensor in large:
            gap = bytes(-stream.tell() % ALIGNMENT)
            stream.write(gap)
            digest.update(gap)
            places.append((stream.tell(), len(tensor.raw_data)))
            stream.write(tensor.raw_data)
            digest.update(tensor.raw_data)
            tensor.ClearField("raw_data")
    file = path.with_name(f"{path.name}.{digest.hexdigest()[:12]}.data")
    path.with_name(unnamed).replace(file)
    for tensor, (offset, length) in zip(large, places, strict=True):
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", file.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    return file
