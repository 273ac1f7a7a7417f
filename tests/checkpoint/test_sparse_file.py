from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from aerogel.checkpoint.sparse_file import Packed, is_sparse_file, read_sparse_file, write_sparse_file
from aerogel.errors import CheckpointError
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.sparse.formats import FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "file-formats.md"
RANDOM = np.random.default_rng(0)
MASK = RANDOM.random((8, 12)) < 0.3
WEIGHT = np.where(MASK, RANDOM.standard_normal((8, 12)), 0).astype(np.float32)
OTHERS = {"bias": np.arange(3, dtype=np.float32), "position_ids": np.arange(4)}


def packed(form: str, weights: str) -> tuple[Packed, np.ndarray]:
    """A packed matrix and its values."""
    value_type = VALUE_TYPES.get(weights)
    stored, auxiliary = value_type.encode(WEIGHT, "w")
    block = (4, 2) if form == "bsr" else (1, 1)
    arrays = FORMATS.get(form).encode(stored, MASK, block) | auxiliary
    return (form, (8, 12), arrays), value_type.decode(stored, auxiliary)


@pytest.fixture(scope="module")
def documented() -> Callable[[Path], dict[str, np.ndarray]]:
    """The reader of the documentation, exactly as it is printed there."""
    (program,) = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    body = program.partition("def read")[2].splitlines()
    assert len([line for line in body if line.strip()]) <= 21
    scope: dict[str, Any] = {}
    exec(compile(program, str(PAGE), "exec"), scope)
    found: Callable[[Path], dict[str, np.ndarray]] = scope["read"]
    return found


@pytest.mark.parametrize("form", ["csr", "bsr"])
@pytest.mark.parametrize("weights", ["fp32", "fp16", "int8"])
def test_both_readers_give_what_was_written(
    documented: Callable[[Path], dict[str, np.ndarray]], form: str, weights: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    matrix, expected = packed(form, weights)
    write_sparse_file(path, OTHERS, {"layer.weight": matrix})
    assert is_sparse_file(path)
    for found in (read_sparse_file(path), documented(path)):
        assert found.keys() == {"layer.weight", *OTHERS}
        assert found["layer.weight"].dtype == np.float32
        np.testing.assert_array_equal(found["layer.weight"], expected)
        for name, value in OTHERS.items():
            np.testing.assert_array_equal(found[name], value)


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    matrix, _ = packed("csr", "int8")
    for name, others in (("a", OTHERS), ("b", dict(reversed(OTHERS.items())))):
        write_sparse_file(tmp_path / name, others, {"layer.weight": matrix, "other": matrix})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_names_that_collide_are_refused(tmp_path: Path) -> None:
    matrix, _ = packed("csr", "fp32")
    with pytest.raises(CheckpointError, match=r"stored as w\.data"):
        write_sparse_file(tmp_path / "m", {"w.data": np.ones(1)}, {"w": matrix})


def test_other_files_are_not_sparse_files(tmp_path: Path) -> None:
    plain, broken = tmp_path / "plain.safetensors", tmp_path / "broken.safetensors"
    safetensors.numpy.save_file({"w": WEIGHT}, plain, metadata={"format": "pt"})
    broken.write_bytes(b"\xff" * 20)
    assert [is_sparse_file(path) for path in (plain, broken, tmp_path, tmp_path / "no.safetensors")] == [
        False
    ] * 4


ENTRY = {"shape": [8, 12], "format": "csr", "arrays": ["data", "indices", "indptr"]}


def meta(**change: Any) -> str:
    return json.dumps({"schema": 1, "matrices": {"w": ENTRY | change}})


DAMAGE: dict[str, tuple[dict[str, Any], str, str]] = {
    "json": ({}, "{", "metadata 'aerogel': it is not JSON"),
    "schema": ({}, '{"schema": 2, "matrices": {}}', "has schema 2, and this version reads 1"),
    "format": ({}, meta(format="coo"), "w: unknown format 'coo'"),
    "huge": ({}, meta(shape=[1 << 40, 12]), r"matrices\.w\.shape\[0\]"),
    "shape": ({}, meta(shape=[9, 12]), r"w: indptr must be int32\[10\]"),
    "arrays": ({}, meta(arrays=["data"]), "w: indices is missing"),
    "lost": ({"w.indptr": None}, meta(), r"w\.indptr is missing"),
    "twice": ({"w": WEIGHT}, meta(), "w is stored twice"),
    "index": ({"w.indices": np.full(MASK.sum(), 12, np.uint16)}, meta(), r"w: index 12 .* is outside"),
    "scale": (
        {"w.scale": np.ones(3, np.float32)}, meta(arrays=["data", "indices", "indptr", "scale"]),
        r"scale must be float32\[8\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(damage: str, tmp_path: Path) -> None:
    changes, metadata, message = DAMAGE[damage]
    (_, _, arrays), _ = packed("csr", "fp32")
    tensors = {f"w.{key}": array for key, array in arrays.items()} | changes
    safetensors.numpy.save_file(
        {name: value for name, value in tensors.items() if value is not None},
        tmp_path / "m.safetensors",
        metadata={"aerogel": metadata},
    )
    with pytest.raises(CheckpointError, match=rf"m\.safetensors.*{message}"):
        read_sparse_file(tmp_path / "m.safetensors")
