from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aerogel import checkpoint
from aerogel.checkpoint import MASKS_FILE, RECORD_FILE, WEIGHTS_FILE
from aerogel.errors import CheckpointError, OutputError
from aerogel.system.atomic_io import sha256

MATRIX = "bert.encoder.layer.0.intermediate.dense.weight"


@pytest.fixture
def folder(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> Path:
    """A checkpoint to damage."""
    return Path(shutil.copytree(tiny_checkpoint(), tmp_path / "checkpoint"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the record."""
    file = folder / RECORD_FILE
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def reseal(folder: Path) -> None:
    """Update the SHA-256 of the altered files in the record."""
    edit(
        folder,
        lambda record: record["files"].update({name: sha256(folder / name) for name in record["files"]}),
    )


def rewrite(folder: Path, name: str, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the tensors of a file and its SHA-256 in the record."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)
    reseal(folder)


def retype(folder: Path, name: str, kind: str) -> None:
    """Change the dtype of the tensor MATRIX in a file to one of the same width."""
    content = (folder / name).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    entry = header[MATRIX]
    width = {"I8": 1, "BF16": 2, "U32": 4}[kind]
    begin, end = entry["data_offsets"]
    header[MATRIX] = {**entry, "dtype": kind, "shape": [(end - begin) // width]}
    if len(entry["shape"]) == 2:
        rows, columns = entry["shape"]
        header[MATRIX]["shape"] = [rows, columns * 4 // width]
    changed = json.dumps(header).encode()
    (folder / name).write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + size :])
    reseal(folder)


def flip(tensors: dict[str, np.ndarray]) -> None:
    """Swap a kept and a pruned weight of a mask; the count stays the same."""
    bits = np.unpackbits(tensors[MATRIX], bitorder="little")
    kept, pruned = int(np.flatnonzero(bits)[0]), int(np.flatnonzero(bits == 0)[0])
    bits[[kept, pruned]] = bits[[pruned, kept]]
    tensors[MATRIX] = np.packbits(bits, bitorder="little")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated weights": (
        lambda folder: (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:-4]),
        r"model.safetensors differs from its SHA-256 in aerogel.json",
    ),
    "truncated weights, sealed": (
        lambda folder: (
            (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:-4]),
            reseal(folder),
        ),
        r"cannot read a safetensors file",
    ),
    "altered config": (
        lambda folder: (folder / "config.json").write_text("{}"),
        r"config.json differs from its SHA-256",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), r"model.safetensors is missing"),
    "no masks": (lambda folder: (folder / MASKS_FILE).unlink(), r"masks.safetensors is missing"),
    "no record": (lambda folder: (folder / RECORD_FILE).unlink(), r"aerogel.json is missing"),
    "no folder": (shutil.rmtree, r"checkpoint is not a directory"),
    "record a folder": (
        lambda folder: ((folder / RECORD_FILE).unlink(), (folder / RECORD_FILE).mkdir()),
        r"aerogel.json is missing",
    ),
    "record not JSON": (lambda folder: (folder / RECORD_FILE).write_text("{"), r"cannot be read as JSON"),
    "record not text": (
        lambda folder: (folder / RECORD_FILE).write_bytes(b"\xff"),
        r"cannot be read as JSON",
    ),
    "record too deep": (
        lambda folder: (folder / RECORD_FILE).write_text("[" * 200_000),
        r"cannot be read as JSON",
    ),
    "record a list": (lambda folder: (folder / RECORD_FILE).write_text("[]"), r"has schema 'list'"),
    "another schema": (
        lambda folder: edit(folder, lambda r: r.update(schema=2)),
        r"has schema 2, .* reads 1",
    ),
    "a field more": (
        lambda folder: edit(folder, lambda r: r.update(evil=1)),
        r"unknown field 'evil'; remove it",
    ),
    "schema true": (lambda folder: edit(folder, lambda r: r.update(schema=True)), r"has schema True"),
    "no task": (lambda folder: edit(folder, lambda r: r.pop("task")), r"aerogel.json: task is missing"),
    "a seed of true": (
        lambda folder: edit(folder, lambda r: r.update(seed=True)),
        r"aerogel.json: seed is true, not an integer",
    ),
    "a number that is not JSON": (
        lambda folder: edit(folder, lambda r: r["config"].update(x=float("nan"))),
        r"as JSON \(NaN is not a JSON number",
    ),
    "an infinite metric": (
        lambda folder: (folder / RECORD_FILE).write_text(
            (folder / RECORD_FILE).read_text().replace('"metrics": {', '"metrics": {"a": 1e999')
        ),
        r"1e999 is not finite",
    ),
    "a metric of true": (
        lambda folder: edit(folder, lambda r: r["metrics"].update(a=True)),
        r"metrics\.a is true, not a number",
    ),
    "a metric of any length": (
        lambda folder: edit(folder, lambda r: r["metrics"].update(a=10**400)),
        r"does not fit into 64 bits",
    ),
    "a version of 3": (
        lambda folder: edit(folder, lambda r: r["versions"].update(a=3)),
        r"versions\.a is 3, not text",
    ),
    "an unknown scope": (
        lambda folder: edit(folder, lambda r: r.update(scope="layer")),
        r"scope 'layer' is neither",
    ),
    "a block that does not divide": (
        lambda folder: edit(folder, lambda r: r.update(block=[3, 1])),
        r"aerogel.json: block 3x1 does not divide bert\.",
    ),
    "an encoder below its matrices": (
        lambda folder: edit(folder, lambda r: r.update(encoder_parameters=100)),
        r"encoder_parameters is 100, but the masked matrices",
    ),
    "an encoder of true": (
        lambda folder: edit(folder, lambda r: r.update(encoder_parameters=True)),
        r"encoder_parameters is true, not an integer",
    ),
    "an encoder beyond all": (
        lambda folder: edit(folder, lambda r: r.update(encoder_parameters=10**400)),
        r"does not fit into 64 bits",
    ),
    "a count with a point": (
        lambda folder: edit(
            folder, lambda r: r["matrices"][MATRIX].update(kept=float(r["matrices"][MATRIX]["kept"]))
        ),
        rf"matrices\.{MATRIX}\.kept is \d+\.0, not an integer",
    ),
    "another shape": (
        lambda folder: edit(folder, lambda r: r["matrices"][MATRIX].update(shape=[32, 64])),
        rf"{MATRIX}: aerogel.json has shape \[32, 64\], model.safetensors \[64, 32\]",
    ),
    "no block": (lambda folder: edit(folder, lambda r: r.pop("block")), r"aerogel.json: block is missing"),
    "a block of one": (
        lambda folder: edit(folder, lambda r: r.update(block=[4])),
        r"block is \[4\], not a list of 2",
    ),
    "a block of zero": (
        lambda folder: edit(folder, lambda r: r.update(block=[0, 1])),
        r"block\[0\] is 0, not an integer from 1",
    ),
    "metrics a list": (
        lambda folder: edit(folder, lambda r: r.update(metrics=[])),
        r"metrics is \[\], not an object",
    ),
    "matrices null": (
        lambda folder: edit(folder, lambda r: r.update(matrices=None)),
        r"matrices is null, not an object",
    ),
    "record lacks a matrix": (
        lambda folder: edit(folder, lambda r: r["matrices"].pop(MATRIX)),
        rf"{MATRIX} is in only one of masks.safetensors and aerogel.json",
    ),
    "record counts wrong": (
        lambda folder: edit(folder, lambda r: r["matrices"][MATRIX].update(kept=3)),
        rf"{MATRIX}: .* disagree on the number",
    ),
    "record has no count": (
        lambda folder: edit(folder, lambda r: r["matrices"].update({MATRIX: 3})),
        rf"matrices\.{MATRIX} is 3, not an object",
    ),
    "masks lack a matrix": (
        lambda folder: rewrite(folder, MASKS_FILE, lambda t: t.pop(MATRIX)),
        rf"{MATRIX} is in only one of",
    ),
    "weights lack a matrix": (
        lambda folder: rewrite(folder, WEIGHTS_FILE, lambda t: t.pop(MATRIX)),
        rf"{MATRIX} has no weight in model.safetensors",
    ),
    "mask of another matrix": (
        lambda folder: rewrite(folder, MASKS_FILE, flip),
        rf"{MATRIX} has nonzero weights where its mask prunes",
    ),
    "mask too short": (
        lambda folder: rewrite(folder, MASKS_FILE, lambda t: t.update({MATRIX: t[MATRIX][:-1].copy()})),
        rf"{MATRIX}: packed mask is uint8\[255\], expected uint8\[256\]",
    ),
    "mask a scalar": (
        lambda folder: rewrite(folder, MASKS_FILE, lambda t: t.update({MATRIX: np.zeros((), np.uint8)})),
        rf"{MATRIX}: packed mask is uint8\[\]",
    ),
    "weight flattened": (
        lambda folder: rewrite(folder, WEIGHTS_FILE, lambda t: t.update({MATRIX: t[MATRIX].reshape(-1)})),
        r"1 dimensions; only matrices can have masks",
    ),
    "weight scaled where pruned": (
        lambda folder: rewrite(folder, WEIGHTS_FILE, lambda t: t.update({MATRIX: t[MATRIX] + 1})),
        rf"{MATRIX} has nonzero weights where its mask prunes",
    ),
    "mask of signed bytes": (lambda folder: retype(folder, MASKS_FILE, "I8"), rf"{MATRIX} is I8, not U8"),
    "mask of bfloat16": (lambda folder: retype(folder, MASKS_FILE, "BF16"), rf"{MATRIX} is BF16, not U8"),
    "weight of bfloat16": (
        lambda folder: retype(folder, WEIGHTS_FILE, "BF16"),
        rf"{MATRIX} is BF16, not F32",
    ),
    "weight of integers": (lambda folder: retype(folder, WEIGHTS_FILE, "U32"), rf"{MATRIX} is U32, not F32"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_checkpoints_are_refused(folder: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def again(folder: Path) -> checkpoint.Checkpoint:
    """Save the checkpoint of `folder` over itself."""
    made = checkpoint.load(folder)
    names = [file.name for file in folder.iterdir() if file.name not in (RECORD_FILE, MASKS_FILE)]
    contents = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}

    def write(target: Path) -> None:
        for name, content in contents.items():
            (target / name).write_bytes(content)

    return checkpoint.save(folder, made.record, made.masks, write)


def test_a_checkpoint_replaces_an_older_one(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    made = again(folder)
    assert made.path == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]
    assert all(np.array_equal(mask, made.masks[name]) for name, mask in checkpoint.load(folder).masks.items())


@pytest.mark.parametrize("foreign", ["onnx/model.onnx", "notes.txt"])
def test_files_that_do_not_belong_to_the_checkpoint_are_never_deleted(folder: Path, foreign: str) -> None:
    (folder / foreign).parent.mkdir(exist_ok=True)
    (folder / foreign).touch()
    name = foreign.partition("/")[0]
    with pytest.raises(CheckpointError, match=rf"{name} does not belong to the checkpoint .* move it or"):
        again(folder)
    assert (folder / foreign).exists()


def test_a_checkpoint_without_a_list_of_its_files_can_be_replaced(folder: Path) -> None:
    edit(folder, lambda record: record.pop("unsealed"))
    again(folder)
    edit(folder, lambda record: record.pop("unsealed"))
    (folder / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"notes.txt does not belong to the checkpoint"):
        again(folder)


def test_a_record_with_a_number_that_is_not_finite_is_not_written(folder: Path, tmp_path: Path) -> None:
    made = checkpoint.load(folder)
    record = dataclasses.replace(made.record, metrics={"accuracy": float("nan")})

    def write(target: Path) -> None:
        for name in ("config.json", WEIGHTS_FILE):
            shutil.copyfile(folder / name, target / name)

    with pytest.raises(CheckpointError, match=r"new: the record has a number that is not finite"):
        checkpoint.save(tmp_path / "new", record, made.masks, write)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_files_have_the_permissions_of_new_files(folder: Path) -> None:
    mask = os.umask(0o027)
    try:
        again(folder)
    finally:
        os.umask(mask)
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o640}
    assert folder.stat().st_mode & 0o777 == 0o750


def test_a_folder_with_a_damaged_record_is_not_replaced(folder: Path) -> None:
    (folder / RECORD_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        checkpoint.check_target(folder)


def test_the_target_of_a_symbolic_link_is_replaced(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    for _ in range(2):
        assert again(link).path == link
        assert link.is_symlink()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint", "link"]


def test_a_failed_write_of_the_weights_is_an_output_error(folder: Path, tmp_path: Path) -> None:
    made = checkpoint.load(folder)

    def write(target: Path) -> None:
        # The error of the safetensors library on a full disk.
        save_file({"a": np.zeros(3)}, target / "no" / "such" / "folder")

    with pytest.raises(OutputError, match=r"new cannot be written"):
        checkpoint.save(tmp_path / "new", made.record, made.masks, write)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
