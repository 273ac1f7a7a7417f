"""Models on disk, read a tensor at a time: a checkpoint directory, or an exported .onnx file with its manifest.

Neither is ever whole in memory as dense matrices: what is packed is packed matrix by matrix.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aerogel import checkpoint as checkpoints
from aerogel.errors import FormatError, RuntimeLoadError, require
from aerogel.export.layout import manifest_path
from aerogel.files import sha256
from aerogel.runtime import check_model
from aerogel.sparse.format import Arrays
from aerogel.sparse.formats import FORMATS

__all__ = ["Matrix", "Stored", "open_stored"]

_FLOATS = (np.float32, np.float16)


@dataclass(frozen=True)
class Matrix:
    """One pruned matrix: float `weight` ``[out, in]``, boolean `mask` of its shape, and `arrays` where it lies packed.

    Attributes:
        arrays: as `format` with `block` has them; None where it lies dense.
    """

    weight: np.ndarray
    mask: np.ndarray
    format: str = ""
    block: tuple[int, int] = (1, 1)
    arrays: Arrays | None = None

    def tensors(self, format: str, block: tuple[int, int]) -> dict[str, torch.Tensor]:
        """The arrays of that format: as they lie, or packed anew."""
        arrays = self.arrays
        if arrays is None or (self.format, self.block) != (format, block):
            arrays = FORMATS.get(format).encode(self.weight, self.mask, block)
        # What lies in a file is read-only.
        return {name: torch.from_numpy(np.require(array, requirements="W")) for name, array in arrays.items()}


class Stored(ABC):
    """A model on disk.

    Attributes:
        path: what errors name.
        folder: where config.json lies.
        block: (rows, cols) that it was pruned in.
        matrices: names of the pruned weights.
    """

    path: Path
    folder: Path
    block: tuple[int, int]
    matrices: list[str]

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor that is not in `matrices`, by its name in the model."""

    @abstractmethod
    def matrix(self, name: str) -> Matrix:
        """One of `matrices`; to be asked for once."""


def open_stored(path: Path) -> Stored:
    """Open a checkpoint directory, or an exported .onnx file.

    Raises:
        CheckpointError: the directory is not a sound checkpoint.
        RuntimeLoadError: the file is not a sound artifact with its manifest.
    """
    return _Artifact(path) if path.suffix == ".onnx" else _Checkpoint(path)


class _Checkpoint(Stored):
    def __init__(self, path: Path) -> None:
        checkpoint = checkpoints.load(path)
        self.path = self.folder = path
        self.block = checkpoint.record.block
        self.matrices = list(checkpoint.masks)
        # Masks leave one by one, as they are packed.
        self._masks = checkpoint.masks

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        with self._opened("pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                if name not in self.matrices:
                    # A copy: what is read lies in the mapped file.
                    yield name, file.get_tensor(name).clone()

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
        self.path, self.folder = path, path.parent
        self._manifest = _read_manifest(path)
        onnx = require("onnx", "export")
        try:
            model = onnx.load(path, load_external_data=False)
        except Exception as error:  # protobuf's own, several
            raise RuntimeLoadError(f"{path} is not an ONNX file ({error}); export it anew") from error
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._described: dict[str, Any] = self._manifest["matrices"]
        self.matrices = [name for name, entry in self._described.items() if entry["format"] != "dense"]
        blocks = {tuple(self._tensors[f"{n}.data"].dims[1:]) or (1, 1) for n in self.matrices if self._has(n)}
        self.block = blocks.pop() if len(blocks) == 1 else (1, 1)

    def _has(self, name: str) -> bool:
        if f"{name}.data" not in self._tensors:
            raise RuntimeLoadError(f"{self.path} lacks {name}.data, which its manifest names; export it anew")
        return True

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        packed = {f"{name}.{array}" for name in self._described for array in ("data", "indices", "indptr")}
        for name in list(self._tensors):
            if name in packed or name.endswith(".no_bias"):
                continue
            array = self._array(name)
            if name.endswith(".weight.data") and array.dtype not in _FLOATS:
                raise RuntimeLoadError(
                    f"{self.path}: {name} is stored as {array.dtype}; open the checkpoint, or export it with "
                    "--embeddings fp32 or fp16"
                )
            if name.endswith(".transposed"):
                yield name.removesuffix(".transposed"), torch.from_numpy(array.T.copy())
            elif name.endswith(".weight.data"):
                # A table of embeddings in half precision.
                yield name.removesuffix(".data"), torch.from_numpy(array.astype(np.float32))
            else:
                yield name, torch.from_numpy(array.copy())
        for name, entry in self._manifest["shared"].items():
            yield name, self._shared(name, entry)

    def matrix(self, name: str) -> Matrix:
        entry = self._described[name]
        shape = (entry["shape"][0], entry["shape"][1])
        format = FORMATS.get(entry["format"])
        arrays = {key: self._array(f"{name}.{key}") for key in format.names}
        if arrays["data"].dtype not in _FLOATS:
            raise RuntimeLoadError(
                f"{self.path}: {name} is stored as {arrays['data'].dtype}, and PyTorch's kernels multiply floats; "
                "open the checkpoint, or export it with --weights fp32 or fp16"
            )
        try:
            weight = format.decode(arrays, shape)
            mask = format.decode(arrays | {"data": np.ones(arrays["data"].shape, bool)}, shape)
        except FormatError as error:
            raise RuntimeLoadError(f"{self.path}: {name}: {error}; export it anew") from error
        block = arrays["data"].shape[1:] if format.blocked else (1, 1)
        return Matrix(weight.astype(np.float32), mask, entry["format"], (block[0], block[1]), arrays)

    def _array(self, name: str) -> np.ndarray:
        import onnx

        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise RuntimeLoadError(f"{self.path} lacks {name}; export it anew")
        try:
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError) as error:
            raise RuntimeLoadError(f"{self.path}: {name} cannot be read ({error}); export it anew") from error

    def _shared(self, name: str, entry: Any) -> torch.Tensor:
        if isinstance(entry, str):
            return torch.from_numpy(self._array(entry).copy())
        try:
            return torch.zeros([int(side) for side in entry])
        except (TypeError, ValueError, RuntimeError) as error:
            raise RuntimeLoadError(
                f"{manifest_path(self.path)}: shared has no shape for {name}; export it anew"
            ) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    file = manifest_path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
        matrices = document["matrices"]
        known = all(
            isinstance(entry["format"], str)
            and len(entry["shape"]) == 2
            and all(type(side) is int and side > 0 for side in entry["shape"])
            for entry in matrices.values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RuntimeLoadError(
            f"{file} is missing or no manifest of an export; keep it beside the .onnx file, or open the checkpoint"
        ) from error
    if not known or document.get("sha256") != sha256(path):
        raise RuntimeLoadError(f"{file} is not the manifest of {path.name}; export it anew")
    if not isinstance(document.get("shared"), dict):
        raise RuntimeLoadError(
            f"{file} does not say which tensors the file shares, as those of earlier versions; export it anew"
        )
    found: dict[str, Any] = document
    return found
