from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from aerogel.checkpoint.bitmask import decode_bitmask, decode_bitmask_tensors, encode_bitmask
from aerogel.errors import CheckpointError, FormatError

WEIGHT = np.array([[0, 2, 0, 0, 0, 0, 0, 0, 5], [0] * 9, [1, 0, 0, 4, 0, 0, 0, 3, 0]], np.float32)


def test_the_bytes_are_those_of_the_layout() -> None:
    arrays = encode_bitmask(WEIGHT)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "shape": [3, 9],
        "bitmask": [[0b10, 1], [0, 0], [0b10001001, 0]],
        "compressed": [2, 5, 1, 4, 3],
        "row_offsets": [0, 2, 2],
    }
    assert [array.dtype.name for array in arrays.values()] == ["int64", "uint8", "float32", "int64"]


@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (5, 8), (2, 17)])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_decoding_gives_the_matrix_back(shape: tuple[int, int], density: float) -> None:
    random = np.random.default_rng(0)
    weight = np.where(random.random(shape) < density, random.standard_normal(shape) + 9, 0).astype(np.float32)
    mask, values = decode_bitmask(encode_bitmask(weight))
    dense = np.zeros(shape, np.float32)
    dense[mask] = values
    np.testing.assert_array_equal(dense, weight)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"row_offsets": None}, "row_offsets is missing"),
    "huge": ({"shape": np.array([3, 1 << 40])}, "shape must be two numbers"),
    "negative": ({"shape": np.array([-3, 9])}, "shape must be two numbers"),
    "cube": ({"shape": np.array([3, 9, 1])}, "shape must be two numbers"),
    "bits": ({"bitmask": np.zeros((3, 1), np.uint8)}, r"bitmask must be uint8\[3, 2\]"),
    "padding": ({"bitmask": np.array([[2, 3], [0, 0], [137, 0]], np.uint8)}, "padding bits that are set"),
    "values": ({"compressed": np.ones(4, np.float32)}, r"compressed must have 5 values, not the shape \[4\]"),
    "offsets": ({"row_offsets": np.array([0, 2, 3])}, "row_offsets are not those"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_arrays_that_break_a_rule_are_refused(change: str, tmp_path: Path) -> None:
    changed, message = CHANGES[change]
    arrays = {k: v for k, v in (encode_bitmask(WEIGHT) | changed).items() if v is not None}
    with pytest.raises(FormatError, match=message):
        decode_bitmask(arrays)
    safetensors.numpy.save_file(
        {f"a.b.{name}": array for name, array in arrays.items()}, tmp_path / "m.safetensors"
    )
    with pytest.raises(CheckpointError, match=rf"m\.safetensors: a\.b: .*{message}"):
        decode_bitmask_tensors(tmp_path / "m.safetensors")
