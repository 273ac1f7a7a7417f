"""Checkpoint directories: `train` writes them; `export`, `bench` and `inspect` read them.

A checkpoint is a Hugging Face directory that transformers loads unchanged (config.json, model.safetensors with exact
zeros for pruned weights, tokenizer files), plus:

* ``masks.safetensors``: for each pruned weight, under its name, the packed mask as a uint8 vector: row-major, lowest
  bit first, the last byte padded with zero bits.
* ``scores.safetensors``, optional: the scores behind the masks (`aerogel.checkpoint.scores`).
* ``aerogel.json``: the record of the run (`Record`), with the SHA-256 of the other files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.errors import CheckpointError, FormatError, OutputError, UsageError, require
from aerogel.sparse.density import Accounting, account
from aerogel.sparse.masks import check_block, pack, unpack
from aerogel.system.atomic_io import atomic_directory, check_output, sha256
from aerogel.system.json_fields import Each, Either, MalformedJsonError, Number, check, read
from aerogel.system.printable import unprintable

__all__ = [
    "MASKS_FILE",
    "RECORD_FILE",
    "SCHEMA",
    "SCORES_FILE",
    "WEIGHTS_FILE",
    "Checkpoint",
    "Record",
    "check_target",
    "load",
    "not_finite",
    "read_config",
    "save",
]

SCHEMA = 1
RECORD_FILE = "aerogel.json"
MASKS_FILE = "masks.safetensors"
WEIGHTS_FILE = "model.safetensors"
SCORES_FILE = "scores.safetensors"
_SEALED = ("config.json", WEIGHTS_FILE, MASKS_FILE)
# More parameters than any model has. Smaller counts are exact in float64.
_MAX_PARAMETERS = 2**53
# Safetensors dtypes of a weight with a mask.
_FLOATS = ("F32", "F16", "F64")
# Tokenizer files of a checkpoint from before the field `unsealed`, which lists them.
_TOKENIZER = (
    "added_tokens.json", "chat_template.jinja", "generation_config.json", "merges.txt", "sentencepiece.bpe.model",
    "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """Contents of aerogel.json.

    Attributes:
        method: name of the pruning method, or "dense".
        config: full configuration of the method and the run.
        block: (rows, cols) that are kept or pruned together.
        scope: "local" or "global".
        encoder_parameters: number of parameters of the encoder layers, for the density of the encoder.
        task: name of the task, or None.
        metrics: evaluation results by metric name.
        seed: seed of the run.
        data: number of rows and SHA-256 of each split of the training data.
        versions: library versions by name.
    """

    method: str
    config: dict[str, Any]
    block: tuple[int, int]
    scope: str
    encoder_parameters: int
    task: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


# All fields of aerogel.json.
_FIELDS = {f.name for f in fields(Record)} | {
    "schema", "density", "encoder_density", "matrices", "files", "unsealed"
}  # fmt: skip


_FIELD_SCHEMA = {
    "method": str, "config": dict, "block": (Number(int, 1), Number(int, 1)), "scope": str,
    "encoder_parameters": Number(int, 0, _MAX_PARAMETERS), "task": Either(str, None), "metrics": Each(float),
    "seed": int,
    "data": dict, "versions": Each(str), "files": Each(str), "unsealed?": [str],
    "matrices": Each({"shape": (Number(int, 1), Number(int, 1)), "kept": Number(int, 0)}),
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory that passed all checks of `load`.

    Attributes:
        path: the directory.
        record: contents of aerogel.json.
        masks: boolean ``[out, in]`` by weight name.
    """

    path: Path
    record: Record
    masks: dict[str, np.ndarray]

    @property
    def accounting(self) -> Accounting:
        """Densities of the pruned matrices and of the encoder."""
        return account(self.masks, self.record.encoder_parameters)


def save(
    path: Path, record: Record, masks: Mapping[str, np.ndarray], write_model: Callable[[Path], object]
) -> Checkpoint:
    """Write a checkpoint directory atomically.

    Args:
        path: the directory; an older checkpoint there is replaced when the new one is complete.
        record: record of the run.
        masks: boolean ``[out, in]`` by weight name in model.safetensors.
        write_model: function that writes config.json, model.safetensors and the tokenizer files into the directory it
            is called with (``model.save_pretrained``). Pruned weights must be zero already.

    Returns:
        The new checkpoint.

    Raises:
        CheckpointError: `path` is not a checkpoint directory, or the new checkpoint does not pass `load`.
        OutputError: `path` is not writable, or the disk is full.
    """
    numpy_files = require("safetensors.numpy", "train")
    failure = require("safetensors", "train").SafetensorError
    check_target(path)
    with atomic_directory(path) as folder:
        try:
            write_model(folder)
            numpy_files.save_file(
                {name: pack(mask) for name, mask in masks.items()}, str(folder / MASKS_FILE)
            )
        except failure as error:
            raise OutputError(
                f"{path} cannot be written ({error}); free disk space or choose another path"
            ) from error
        accounting = account(masks, record.encoder_parameters)
        document = {
            "schema": SCHEMA,
            **asdict(record),
            "density": accounting.density,
            "encoder_density": accounting.encoder_density,
            "matrices": {
                name: {"shape": m.shape, "kept": m.kept, "density": m.density}
                for name, m in accounting.matrices.items()
            },
            "files": {name: sha256(folder / name) for name in _sealed(folder)},
            "unsealed": sorted({file.name for file in folder.iterdir()} - {*_sealed(folder)}),
        }
        try:
            text = json.dumps(document, indent=2, allow_nan=False)
        except ValueError as error:
            raise CheckpointError(
                f"{path}: the record has a number that is not finite; check the metrics and the configuration"
            ) from error
        (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8")
        made = load(folder)
    return replace(made, path=path)


def check_target(path: Path) -> None:
    """Check, before the work, that a checkpoint can be written to `path`.

    An older checkpoint there would be replaced, together with every other file in its directory.

    Raises:
        CheckpointError: `path` is not a checkpoint, or has files that do not belong to it.
        OutputError: `path` is not writable.
    """
    check_output(path, folder=True)
    if not path.exists() or not (found := {file.name for file in path.iterdir()}):
        return
    if RECORD_FILE not in found:
        raise CheckpointError(f"{path} exists and is not an Aerogel checkpoint; choose another --out")
    document = _read_document(path)
    own = [RECORD_FILE, *document["files"], *document.get("unsealed", _TOKENIZER)]
    if foreign := sorted(name for name in found if name not in own):
        raise CheckpointError(
            f"{path / foreign[0]} does not belong to the checkpoint in that folder and would be deleted with it; "
            "move it or choose another --out"
        )


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint directory.

    Raises:
        CheckpointError: a file is missing, truncated or altered, the record is malformed, or a mask contradicts its
            weight; names the file or tensor.
    """
    try:
        return _load(path)
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path} ({error.strerror}: {error.filename}); check its permissions"
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """The fields of config.json in a checkpoint directory, without a check of their types.

    Raises:
        CheckpointError: the file cannot be read or is not a JSON object.
    """
    file = path / "config.json"
    try:
        config: dict[str, Any] = read(file, dict)
    except (OSError, MalformedJsonError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON ({error}); restore it") from error
    return config


def not_finite(path: Path, name: str) -> CheckpointError:
    """The error for a checkpoint whose tensor `name` has a NaN or an infinity."""
    return CheckpointError(
        f"{path / WEIGHTS_FILE}: {name} has values that are not finite; restore it or train again with a lower --lr"
    )


def _load(path: Path) -> Checkpoint:
    document = _read_document(path)
    for name in _sealed(path, SCORES_FILE in document["files"]):
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name} is missing; the checkpoint is incomplete, write it again")
        if name == SCORES_FILE and name not in document["files"]:
            raise CheckpointError(f"{path / name} is not listed in {RECORD_FILE}; delete it")
        if sha256(path / name) != document["files"].get(name):
            raise CheckpointError(
                f"{path / name} differs from its SHA-256 in {RECORD_FILE} (truncated or altered); "
                "restore it or write the checkpoint again"
            )
    record = Record(
        **{f.name: document[f.name] for f in fields(Record)} | {"block": tuple(document["block"])}
    )
    masks = _read_masks(path, document["matrices"])
    try:
        for name, mask in masks.items():
            check_block(mask.shape, record.block, name)
    except UsageError as error:
        raise CheckpointError(f"{path / RECORD_FILE}: {error}") from error
    masked = sum(mask.size for mask in masks.values())
    if not masked <= record.encoder_parameters < _MAX_PARAMETERS:
        raise CheckpointError(
            f"{path / RECORD_FILE}: encoder_parameters is {record.encoder_parameters}, "
            f"but the masked matrices alone have {masked}; write the checkpoint again"
        )
    return Checkpoint(path, record, masks)


def _sealed(folder: Path, scores: bool = False) -> tuple[str, ...]:
    """Files whose SHA-256 is in the record; scores only if they exist or `scores` is true."""
    return (*_SEALED, SCORES_FILE) if scores or (folder / SCORES_FILE).exists() else _SEALED


def _read_document(path: Path) -> dict[str, Any]:
    """Read aerogel.json and check the names and types of its fields."""
    file = path / RECORD_FILE
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a directory; give a checkpoint that `aerogel train` wrote")
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; {path} is not an Aerogel checkpoint")
    try:
        document: Any = read(file)
    except MalformedJsonError as error:
        raise CheckpointError(
            f"{file} cannot be read as JSON ({error}); restore it or write the checkpoint again"
        ) from error
    found = document.get("schema") if isinstance(document, dict) else type(document).__name__
    if not isinstance(document, dict) or type(found) is not int or found != SCHEMA:
        raise CheckpointError(
            f"{file} has schema {found!r}, and this version reads {SCHEMA}; use a matching release"
        )
    if unknown := sorted(document.keys() - _FIELDS):
        raise CheckpointError(
            f"{file}: unknown field {unknown[0]!r}; remove it, or use the release that wrote it"
        )
    if text := unprintable(document):
        raise CheckpointError(
            f"{file} has text that cannot be printed: {text[:80]}; restore it or write the checkpoint again"
        )
    try:
        check(document, _FIELD_SCHEMA)
    except MalformedJsonError as error:
        raise CheckpointError(f"{file}: {error}; write the checkpoint again") from error
    if document["scope"] not in ("local", "global"):
        raise CheckpointError(
            f"{file}: scope {document['scope']!r} is neither local nor global; write the checkpoint again"
        )
    return dict(document)


def _read_masks(path: Path, matrices: dict[str, Any]) -> dict[str, np.ndarray]:
    """Unpack every mask and compare it with its weight and its entry in the record."""
    safetensors = require("safetensors", "export")
    try:
        with (
            safetensors.safe_open(str(path / MASKS_FILE), framework="numpy") as packed,
            safetensors.safe_open(str(path / WEIGHTS_FILE), framework="numpy") as weights,
        ):
            if set(packed.keys()) != set(matrices):
                name = sorted(set(packed.keys()) ^ set(matrices))[0]
                raise CheckpointError(
                    f"{path}: {name} is in only one of {MASKS_FILE} and {RECORD_FILE}; write the checkpoint again"
                )
            known = set(weights.keys())
            masks = {}
            for name in matrices:
                if name not in known:
                    raise CheckpointError(
                        f"{path / MASKS_FILE}: {name} has no weight in {WEIGHTS_FILE}; write the checkpoint again"
                    )
                masks[name] = _check_mask(path, name, packed, weights, matrices[name])
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path}: cannot read a safetensors file ({error}); write the checkpoint again"
        ) from error
    return masks


def _check_mask(path: Path, name: str, masks: Any, weights: Any, entry: Any) -> np.ndarray:
    # numpy lacks bfloat16 and other types and cannot read such tensors, so their type is checked first.
    for file, opened, known in ((MASKS_FILE, masks, ("U8",)), (WEIGHTS_FILE, weights, _FLOATS)):
        found = opened.get_slice(name).get_dtype()
        if found not in known:
            raise CheckpointError(
                f"{path / file}: {name} is {found}, not {' or '.join(known)}; write the checkpoint again"
            )
    weight = weights.get_tensor(name)
    if weight.ndim != 2:
        raise CheckpointError(
            f"{path}: {name} has a mask and {weight.ndim} dimensions; only matrices can have masks"
        )
    try:
        mask = unpack(masks.get_tensor(name), weight.shape)
    except FormatError as error:
        raise CheckpointError(f"{path / MASKS_FILE}: {name}: {error}") from error
    if entry["kept"] != int(np.count_nonzero(mask)):
        raise CheckpointError(
            f"{path}: {name}: {RECORD_FILE} and {MASKS_FILE} disagree on the number of kept weights; "
            "write the checkpoint again"
        )
    if entry["shape"] != list(mask.shape):
        raise CheckpointError(
            f"{path}: {name}: {RECORD_FILE} has shape {entry['shape']}, {WEIGHTS_FILE} {list(mask.shape)}; "
            "write the checkpoint again"
        )
    if np.any(weight[~mask]):
        raise CheckpointError(
            f"{path}: {name} has nonzero weights where its mask prunes; write the checkpoint again"
        )
    return mask
