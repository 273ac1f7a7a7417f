"""Read a model from disk one tensor at a time: a checkpoint directory, or an exported .onnx file with its manifest.

The dense matrices are never all in memory at once, because each is packed before the next is read.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aerogel import checkpoint as checkpoints
from aerogel.errors import FormatError, RuntimeLoadError, require
from aerogel.runtime import check_model
from aerogel.runtime.artifact import manifest_path
from aerogel.runtime.model_file import find_companion
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS
from aerogel.system.json_fields import Each, Either, MalformedJsonError, Number, read

__all__ = ["Matrix", "Stored", "open_stored"]

_FLOATS = (np.float32, np.float16)
_DENSE = "dense"
_MAX_VALUES = 2**40
_SIDE = Number(int, 1, 2**31 - 1)
_MANIFEST = {
    "sha256": str,
    "matrices": Each({"format": str, "shape": (_SIDE, _SIDE)}),
    "shared?": Each(Either(str, [_SIDE])),
}


@dataclass(frozen=True)
class Matrix:
    """One pruned matrix.

    Attributes:
        weight: float ``[out, in]``.
        mask: boolean of the same shape.
        format: storage format of `arrays`.
        block: (rows, cols) of the blocks of `arrays`.
        arrays: arrays of the packed matrix in the file; None if the file stores it dense.
    """

    weight: np.ndarray
    mask: np.ndarray
    format: str = ""
    block: tuple[int, int] = (1, 1)
    arrays: Arrays | None = None

    def tensors(self, format: str, block: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Return the arrays of this format and block: those of the file if they match, otherwise packed here."""
        arrays = self.arrays
        if arrays is None or (self.format, self.block) != (format, block):
            arrays = FORMATS.get(format).encode(self.weight, self.mask, block)
        # Arrays mapped from a file are read-only; torch needs writable ones.
        return {name: torch.from_numpy(np.require(array, requirements="W")) for name, array in arrays.items()}


class Stored(ABC):
    """A model on disk.

    Attributes:
        path: path for messages.
        folder: directory of config.json.
        block: (rows, cols) of the blocks that the model was pruned in.
        matrices: names of the pruned weights.
    """

    path: Path
    folder: Path
    block: tuple[int, int]
    matrices: list[str]

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the name in the model and the value of every tensor that is not in `matrices`."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Return (rows, cols) of one of `matrices` without reading it."""

    @abstractmethod
    def matrix(self, name: str) -> Matrix:
        """Read one of `matrices`. Call this once for each."""


def open_stored(path: Path) -> Stored:
    """Open a checkpoint directory, or an exported .onnx file.

    Raises:
        CheckpointError: the directory is not a valid checkpoint.
        RuntimeLoadError: the file is not a valid export with its manifest.
    """
    return _Artifact(path) if path.suffix == ".onnx" else _Checkpoint(path)


class _Checkpoint(Stored):
    def __init__(self, path: Path) -> None:
        checkpoint = checkpoints.load(path)
        self.path = self.folder = path
        self.block = checkpoint.record.block
        self.matrices = list(checkpoint.masks)
        # `matrix` removes each mask when it is packed, to free its memory.
        self._masks = checkpoint.masks

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        with self._opened("pt") as file:
            for name in file.keys():  # noqa: SIM118 - safetensors files are not mappings
                if name not in self.matrices:
                    # Copy: the tensor is a view of the mapped file.
                    yield name, file.get_tensor(name).clone()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._masks[name].shape

    def matrix(self, name: str) -> Matrix:
        with self._opened("numpy") as file:
            return Matrix(file.get_tensor(name).astype(np.float32, copy=False), self._masks.pop(name))

    def _opened(self, framework: str) -> Any:
        return require("safetensors", "export").safe_open(
            str(self.path / checkpoints.WEIGHTS_FILE), framework=framework
        )


class _Artifact(Stored):
    def __init__(self, path: Path) -> None:
        check_model(path)
        self.path, self.folder = path, find_companion(path, path.with_name("config.json")).parent
        onnx = require("onnx", "export")
        try:
            # Read once: if the file were replaced between two reads, hash and model would not match.
            data = path.read_bytes()
        except OSError as error:
            raise RuntimeLoadError(
                f"cannot read {path} ({error}); check the path and its permissions"
            ) from error
        self._manifest = _read_manifest(path, hashlib.sha256(data).hexdigest())
        try:
            model = onnx.load_model_from_string(data)
        except Exception as error:  # one of several protobuf errors
            raise RuntimeLoadError(f"{path} is not an ONNX file ({error}); export it again") from error
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._described: dict[str, Any] = self._manifest["matrices"]
        self.matrices = [name for name, entry in self._described.items() if entry["format"] != _DENSE]
        blocks = {tuple(self._tensors[f"{n}.data"].dims[1:]) or (1, 1) for n in self.matrices if self._has(n)}
        self.block = blocks.pop() if len(blocks) == 1 else (1, 1)

    def _has(self, name: str) -> bool:
        if f"{name}.data" not in self._tensors:
            raise RuntimeLoadError(
                f"{self.path}: {name}.data is in the manifest but not in the file; export it again"
            )
        return True

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        packed = {
            f"{name}.{array}"
            for name in self.matrices
            for array in FORMATS.get(self._described[name]["format"]).names
        }
        for name in list(self._tensors):
            if name in packed or name.endswith(".no_bias"):
                continue
            array = self._array(name)
            if name.endswith(".weight.data") and array.dtype not in _FLOATS:
                raise RuntimeLoadError(
                    f"{self.path}: {name} is stored as {array.dtype}, which PyTorch's layers cannot use; open the "
                    "checkpoint, or export it with --embeddings fp32 or fp16"
                )
            if name.endswith(".transposed"):
                yield name.removesuffix(".transposed"), torch.from_numpy(array.T.copy())
            elif name.endswith(".weight.data"):
                # An embedding table in half precision.
                yield name.removesuffix(".data"), torch.from_numpy(array.astype(np.float32))
            else:
                yield name, torch.from_numpy(array.copy())
        for name, entry in self._manifest["shared"].items():
            yield name, self._shared(name, entry)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._described[name]["shape"])

    def matrix(self, name: str) -> Matrix:
        entry = self._described[name]
        shape = (entry["shape"][0], entry["shape"][1])
        format = FORMATS.get(entry["format"])
        arrays = {key: self._array(f"{name}.{key}") for key in format.names}
        if arrays["data"].dtype not in _FLOATS:
            raise RuntimeLoadError(
                f"{self.path}: {name} is stored as {arrays['data'].dtype}, but the PyTorch layers need floats; "
                "open the checkpoint, or export it with --weights fp32 or fp16"
            )
        try:
            weight = format.decode(arrays, shape)
            mask = format.decode(arrays | {"data": np.ones(arrays["data"].shape, bool)}, shape)
        except FormatError as error:
            raise RuntimeLoadError(f"{self.path}: {name}: {error}; export it again") from error
        block = arrays["data"].shape[1:] if format.blocked else (1, 1)
        return Matrix(weight.astype(np.float32), mask, entry["format"], (block[0], block[1]), arrays)

    def _array(self, name: str) -> np.ndarray:
        import onnx

        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise RuntimeLoadError(f"{self.path}: {name} is missing; export it again")
        try:
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError) as error:
            raise RuntimeLoadError(f"{self.path}: cannot read {name} ({error}); export it again") from error

    def _shared(self, name: str, entry: Any) -> torch.Tensor:
        if isinstance(entry, str):
            return torch.from_numpy(self._array(entry).copy())
        if math.prod(entry) > _MAX_VALUES:
            raise RuntimeLoadError(
                f"{manifest_path(self.path)}: shared.{name} has {math.prod(entry)} values, more than {_MAX_VALUES}; "
                "export the model again"
            )
        # Expand, so that the zeros take no memory before their shape is checked against the model.
        return torch.zeros(()).expand(entry)


def _read_manifest(path: Path, digest: str) -> dict[str, Any]:
    """Read and check the manifest of the file with this SHA-256."""
    file = find_companion(path, manifest_path(path))
    try:
        document: dict[str, Any] = read(file, _MANIFEST)
    except OSError as error:
        raise RuntimeLoadError(
            f"cannot read {file} ({error.strerror}); keep it next to the .onnx file, or open the checkpoint"
        ) from error
    except MalformedJsonError as error:
        raise RuntimeLoadError(f"{file} is not a valid manifest ({error}); export the model again") from error
    if document["sha256"] != digest:
        raise RuntimeLoadError(f"{file} is not the manifest of {path.name}; export the model again")
    if "shared" not in document:
        raise RuntimeLoadError(
            f"{file} has no field 'shared', because an earlier version wrote it; export the model again"
        )
    unknown = sorted(
        {entry["format"] for entry in document["matrices"].values()} - {_DENSE, *FORMATS.names()}
    )
    if unknown:
        raise RuntimeLoadError(f"{file}: unknown format {unknown[0]!r}; use the release that wrote it")
    return document
