"""The masked checkpoint directory: what `train` writes, and `export`, `bench` and `inspect` read.

It is a normal Hugging Face directory (config.json, model.safetensors with exact zeros where a weight is pruned,
tokenizer files; plain transformers loads it unchanged) plus:

* ``masks.safetensors``: per pruned weight, under the weight's own name, a uint8 vector of packed mask bits in
  row-major order, lowest bit first, the last byte padded with zero bits.
* ``scores.safetensors``, where they were to be kept: the scores that made the masks (`aerogel.scores`).
* ``aerogel.json``: the record of how it was made (`Record`), with the SHA-256 of the files it speaks for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.errors import CheckpointError, FormatError, OutputError, UsageError, require
from aerogel.files import atomic_directory, check_output, sha256
from aerogel.sparse.accounting import Accounting, account
from aerogel.sparse.masks import check_block, pack, unpack

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
    "save",
]

SCHEMA = 1
RECORD_FILE = "aerogel.json"
MASKS_FILE = "masks.safetensors"
WEIGHTS_FILE = "model.safetensors"
SCORES_FILE = "scores.safetensors"
_SEALED = ("config.json", WEIGHTS_FILE, MASKS_FILE)
# No model has so many parameters; below it, counts divide without loss.
_HUGE = 2**53
# What the weight of a mask can be stored as.
_FLOATS = ("F32", "F16", "F64")
# The tokenizer's files of a checkpoint whose record does not list what came with it: those before `unsealed`.
_TOKENIZER = (
    "added_tokens.json", "chat_template.jinja", "generation_config.json", "merges.txt", "sentencepiece.bpe.model",
    "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """Contents of aerogel.json.

    Attributes:
        method: name of the pruning method, or "dense".
        config: the method's and the run's full configuration.
        block: (rows, cols) kept or dropped together.
        scope: "local" or "global".
        encoder_parameters: parameters of the encoder layers, for accounting.
        task: name of the task, or None for a model without one.
        metrics: evaluation results by metric name.
        seed: seed of the run.
        data: what it was trained on: per split, rows and SHA-256.
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


# All that aerogel.json has.
_FIELDS = {f.name for f in fields(Record)} | {
    "schema", "density", "encoder_density", "matrices", "files", "unsealed"
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory that passed every check of `load`. `masks` are boolean ``[out, in]`` by weight name."""

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
    """Write a checkpoint directory as a whole or not at all.

    Args:
        path: the directory; an older checkpoint there is replaced once the new one is complete.
        record: how the checkpoint was made.
        masks: boolean ``[out, in]`` by the name of the weight in model.safetensors.
        write_model: called with a temporary directory; writes config.json, model.safetensors and the tokenizer's
            files there (``model.save_pretrained``). Pruned weights must already be zero.

    Raises:
        CheckpointError: `path` exists and is something other than a checkpoint directory, or what was
            written does not pass `load`.
        OutputError: nothing can be written there, or the disk is full.
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
                f"{path} cannot be written ({error}); choose another place or make room"
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
            raise CheckpointError(f"{path}: the record has a number that is not finite") from error
        (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8")
        made = load(folder)
    return replace(made, path=path)


def check_target(path: Path) -> None:
    """Ask, before the work, whether a checkpoint can be put at `path`.

    An older checkpoint may be replaced; whatever else is in its folder would be lost with it, so there must be nothing.

    Raises:
        CheckpointError: something other than a checkpoint is there, or files that are not the checkpoint's.
        OutputError: nothing can be written there.
    """
    check_output(path, folder=True)
    if not path.exists() or not (found := {file.name for file in path.iterdir()}):
        return
    if RECORD_FILE not in found:
        raise CheckpointError(f"{path} exists and is not an Aerogel checkpoint; choose another --out")
    document = _read_document(path)
    unsealed = document.get("unsealed", _TOKENIZER)
    ours = [RECORD_FILE, *document["files"], *(unsealed if isinstance(unsealed, list | tuple) else ())]
    if foreign := sorted(name for name in found if name not in ours):
        raise CheckpointError(
            f"{path / foreign[0]} is not of the checkpoint in that folder and would be deleted with it; "
            "move it away or choose another --out"
        )


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint directory.

    Raises:
        CheckpointError: a file is missing, truncated or altered, the record is malformed, or a mask
            disagrees with its weight; the message names the file or tensor.
    """
    try:
        return _load(path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}: {error.filename}); see to its permissions"
        ) from error


def not_finite(path: Path, name: str) -> CheckpointError:
    """What to raise over the tensor `name` of a checkpoint that has a NaN or an infinity in it."""
    return CheckpointError(
        f"{path / WEIGHTS_FILE}: {name} has values that are not finite; restore it, or train anew with a lower --lr"
    )


def _load(path: Path) -> Checkpoint:
    document = _read_document(path)
    for name in _sealed(path, SCORES_FILE in document["files"]):
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name} is missing; the checkpoint is incomplete, write it anew")
        if name == SCORES_FILE and name not in document["files"]:
            raise CheckpointError(f"{path / name} is not listed in {RECORD_FILE}; delete it")
        if sha256(path / name) != document["files"].get(name):
            raise CheckpointError(
                f"{path / name} is not the file that {RECORD_FILE} was written with (truncated or altered); "
                "restore it or write the checkpoint anew"
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
    if not masked <= record.encoder_parameters < _HUGE:
        raise CheckpointError(
            f"{path / RECORD_FILE}: encoder_parameters {record.encoder_parameters} cannot be, "
            f"the matrices have {masked}; write the checkpoint anew"
        )
    return Checkpoint(path, record, masks)


def _sealed(folder: Path, scores: bool = False) -> tuple[str, ...]:
    """The files that the record speaks for; scores where they are, or have to be."""
    return (*_SEALED, SCORES_FILE) if scores or (folder / SCORES_FILE).exists() else _SEALED


def _read_document(path: Path) -> dict[str, Any]:
    """Parse aerogel.json and check it has the schema's fields with their types."""
    file = path / RECORD_FILE
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a directory; give a checkpoint that `aerogel train` wrote")
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; {path} is not an Aerogel checkpoint")
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file} is not valid JSON ({error}); restore it or write the checkpoint anew"
        ) from error
    found = document.get("schema") if isinstance(document, dict) else type(document).__name__
    if not isinstance(document, dict) or type(found) is not int or found != SCHEMA:
        raise CheckpointError(
            f"{file} has schema {found!r}, this version reads {SCHEMA}; use a matching release"
        )
    if unknown := sorted(document.keys() - _FIELDS):
        raise CheckpointError(
            f"{file}: unknown field {unknown[0]!r}; take it out, or use the release that wrote it"
        )
    kinds: dict[str, type] = {
        "method": str, "config": dict, "block": list, "scope": str, "encoder_parameters": int,
        "metrics": dict, "seed": int, "data": dict, "versions": dict, "matrices": dict, "files": dict,
    } | ({} if document.get("task", "") is None else {"task": str})  # fmt: skip
    for name, kind in kinds.items():
        # JSON gives these very types; True is an int to isinstance.
        if type(document.get(name)) is not kind:
            raise CheckpointError(
                f"{file}: field {name!r} is missing or malformed; write the checkpoint anew"
            )
    if len(document["block"]) != 2 or not all(type(side) is int and side > 0 for side in document["block"]):
        raise CheckpointError(f"{file}: block {document['block']} is not two positive integers")
    if document["scope"] not in ("local", "global"):
        raise CheckpointError(f"{file}: scope {document['scope']!r} is neither local nor global")
    for name, value in document["metrics"].items():
        # 1e999 is read as infinity, and an integer may be of any length.
        if type(value) not in (int, float) or abs(value) > sys.float_info.max:
            raise CheckpointError(
                f"{file}: metric {name!r} is not a finite number; write the checkpoint anew"
            )
    for field_name in ("versions", "files"):
        for name, value in document[field_name].items():
            if type(value) is not str:
                raise CheckpointError(
                    f"{file}: {field_name} has no text for {name!r}; write the checkpoint anew"
                )
    return document


def _refuse(constant: str) -> None:
    """NaN and the infinities, which Python's parser lets through, are not JSON."""
    raise ValueError(f"{constant} is not a number")


def _read_masks(path: Path, matrices: dict[str, Any]) -> dict[str, np.ndarray]:
    """Unpack every mask and hold it against its weight and its entry in the record."""
    safetensors = require("safetensors", "export")
    try:
        with (
            safetensors.safe_open(str(path / MASKS_FILE), framework="numpy") as packed,
            safetensors.safe_open(str(path / WEIGHTS_FILE), framework="numpy") as weights,
        ):
            if set(packed.keys()) != set(matrices):
                odd = sorted(set(packed.keys()) ^ set(matrices))[0]
                raise CheckpointError(f"{path}: {odd} is in only one of {MASKS_FILE} and {RECORD_FILE}")
            known = set(weights.keys())
            masks = {}
            for name in matrices:
                if name not in known:
                    raise CheckpointError(f"{path / MASKS_FILE}: {name} has no weight in {WEIGHTS_FILE}")
                masks[name] = _check_mask(path, name, packed, weights, matrices[name])
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path}: unreadable safetensors file ({error}); write the checkpoint anew"
        ) from error
    return masks


def _check_mask(path: Path, name: str, masks: Any, weights: Any, entry: Any) -> np.ndarray:
    # numpy has no bfloat16, among others: reading such a tensor fails, so its type is asked for first.
    for file, opened, known in ((MASKS_FILE, masks, ("U8",)), (WEIGHTS_FILE, weights, _FLOATS)):
        found = opened.get_slice(name).get_dtype()
        if found not in known:
            raise CheckpointError(
                f"{path / file}: {name} is {found}, not {' or '.join(known)}; write the checkpoint anew"
            )
    weight = weights.get_tensor(name)
    if weight.ndim != 2:
        raise CheckpointError(
            f"{path}: {name} has a mask but {weight.ndim} dimensions; masks are for matrices"
        )
    try:
        mask = unpack(masks.get_tensor(name), weight.shape)
    except FormatError as error:
        raise CheckpointError(f"{path / MASKS_FILE}: {name}: {error}") from error
    entry = entry if isinstance(entry, dict) else {}
    kept, shape = entry.get("kept"), entry.get("shape")
    if type(kept) is not int or kept != int(np.count_nonzero(mask)):
        raise CheckpointError(
            f"{path}: {name}: {RECORD_FILE} and {MASKS_FILE} disagree on how many weights are kept"
        )
    if shape != list(mask.shape) or any(type(side) is not int for side in shape):
        raise CheckpointError(
            f"{path}: {name}: {RECORD_FILE} has shape {shape}, {WEIGHTS_FILE} {list(mask.shape)}; "
            "write the checkpoint anew"
        )
    if np.any(weight[~mask]):
        raise CheckpointError(
            f"{path}: {name} has nonzero weights where its mask prunes; the mask is of another model"
        )
    return mask
