"""An .onnx file, dense or with zeros, fp32, fp16 or quantised. Neither torch nor transformers is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aerogel.checkpoint import Record
from aerogel.errors import ExportError, UsageError
from aerogel.export.linear import linears
from aerogel.export.source import Source, Subject
from aerogel.hf.names import layer_number
from aerogel.sparse.blocks import common_block
from aerogel.system import json_fields

__all__ = ["SOURCE"]

# Smaller sides are heads and scales, whose time does not count.
_LEAST_SIDE = 8


class Onnx(Source):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Source.recognises`."""
        return path.suffix == ".onnx" and path.is_file()

    def read(self, path: Path, *, token_embeddings: bool = False) -> Subject:
        """See `Source.read`."""
        if token_embeddings:
            raise UsageError(f"--token-embeddings: {path} is not a sentence-transformers model")
        from aerogel.export.onnx_file import read_onnx
        from aerogel.export.onnx_reference import OnnxReference

        folder = path.parent.parent if path.parent.name == "onnx" else path.parent
        tokenizer = folder / "tokenizer.json"
        reference = OnnxReference(
            read_onnx(path), path, tokenizer if tokenizer.is_file() else None, _max_length(folder)
        )
        weights = _matrices(reference)
        if not weights:
            raise ExportError(f"{path} has no linear layers with constant weights; give a text encoder")
        masks = {name: weight != 0 for name, weight in weights.items()}
        record = Record(
            "none", {}, common_block(masks.values()), "local", sum(mask.size for mask in masks.values())
        )
        return Subject(
            "onnx",
            folder,
            record,
            masks,
            lambda names: {name: weights[name] for name in names},
            lambda: reference,
        )


def _matrices(reference: Any) -> dict[str, np.ndarray]:
    """The matrices that may be stored packed: those of numbered layers, or all where no name has a number."""
    graph = reference.graph()
    found: dict[str, np.ndarray] = {}
    for linear in linears(graph):
        tensor = linear.weight.const_value
        name = str(linear.weight.name)
        if tensor is not None and min(tensor.shape.numpy()) >= _LEAST_SIDE and name not in found:
            found[name] = tensor.numpy()
    numbered = {name: weight for name, weight in found.items() if layer_number(f".{name}") is not None}
    return numbered or found


def _max_length(folder: Path) -> int | None:
    """The limit that config.json and tokenizer_config.json state; None if they do not."""
    limits = []
    for file, key in (
        ("config.json", "max_position_embeddings"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        try:
            value = json_fields.read(folder / file, dict).get(key)
        except (OSError, json_fields.MalformedJsonError):
            continue
        if type(value) in (int, float) and 2 <= value < 1 << 20:
            limits.append(int(value))
    return min(limits, default=None)


SOURCE = Onnx()
