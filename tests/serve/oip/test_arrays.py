from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aerogel.serve.oip.arrays import from_binary, from_json, to_binary, to_json
from aerogel.serve.oip.datatypes import DTYPES, InferenceError

NUMBERS = [name for name in DTYPES if name != "BYTES"]


@pytest.mark.parametrize("datatype", NUMBERS)
@given(data=st.data())
def test_arrays_survive_both_encodings(datatype: str, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    finite = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    array = data.draw(hnp.arrays(DTYPES[datatype], shape, elements=finite or None))
    binary = from_binary("x", datatype, shape, to_binary(array))
    assert binary.dtype == array.dtype
    np.testing.assert_array_equal(binary, array)
    plain = np.asarray(to_json("x", array)).tolist()
    np.testing.assert_array_equal(from_json("x", datatype, shape, plain), array)
    nested = array.tolist()
    if array.ndim and array.size:
        np.testing.assert_array_equal(from_json("x", datatype, shape, nested), array)


@given(items=st.lists(st.binary(max_size=8), max_size=6))
def test_byte_strings_survive_the_binary_encoding(items: list[bytes]) -> None:
    array = np.empty(len(items), object)
    array[:] = items
    assert list(from_binary("x", "BYTES", [len(items)], to_binary(array))) == items


def test_the_binary_encoding_is_little_endian_with_lengths_before_byte_strings() -> None:
    assert to_binary(np.array([1, 258], ">i2")) == b"\x01\x00\x02\x01"
    assert to_binary(np.array([b"ab", b""], object)) == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
    assert to_binary(np.array([True, False])) == b"\x01\x00"


BAD_BINARY = [
    ("INT32", [2], b"\0" * 7, "7 bytes, but INT32 of the shape [2] has 8"),
    ("INT32", [], b"", "0 bytes, but INT32 of the shape [] has 4"),
    ("BOOL", [1], b"\x02", "a BOOL must be a byte 0 or 1"),
    ("BYTES", [2], b"\0\0\0\0", "4 bytes are too few for 2 elements"),
    ("BYTES", [1 << 30], b"\0" * 8, "8 bytes are too few for 1073741824 elements"),
    ("BYTES", [1], b"\xff\xff\xff\xffab", "the bytes end inside of element 0"),
    ("BYTES", [2], b"\x04\0\0\0abcd", "the bytes end inside of element 1"),
    ("BYTES", [1], b"\x01\0\0\0ab", "1 bytes after the last of 1 elements"),
    ("FP32", [1 << 30, 1 << 30], b"", "is too large"),
    ("FP32", [0, 1 << 62], b"", "is too large"),
    ("FP32", [1] * 17, b"\0" * 4, "17 dimensions; the limit is 16"),
    ("FP32", [-1], b"", "has a negative size"),
]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"), BAD_BINARY, ids=[row[3][:28] for row in BAD_BINARY]
)
def test_lying_binary_tensors_are_refused(datatype: str, shape: list[int], data: bytes, message: str) -> None:
    with pytest.raises(InferenceError) as caught:
        from_binary("x", datatype, shape, data)
    assert message in str(caught.value)


BAD_JSON: list[tuple[str, list[int], Any, str]] = [
    ("INT8", [1], [128], "out of the range of INT8"),
    ("UINT64", [1], [-1], "out of the range of UINT64"),
    ("INT64", [1], [1.0], "must be integers"),
    ("INT64", [1], [True], "must be integers"),
    ("BOOL", [1], [1], "must be true or false"),
    ("FP32", [1], ["1"], "must be numbers"),
    ("FP32", [1], [1e39], "out of the range of FP32"),
    ("FP16", [1], [70000], "out of the range of FP16"),
    ("FP64", [1], [None], "must be numbers"),
    ("BYTES", [1], [1], "must be text"),
    ("BYTES", [1], ["\ud800"], "half of a surrogate pair"),
    ("INT64", [2], [1], "1 elements, but the shape [2] has 2"),
    ("INT64", [2, 2], [1, 2, 3, 4, 5], "5 elements, but the shape [2, 2] has 4"),
    ("INT64", [2, 2], [[1, 2], [3]], "neither flat nor nested"),
    ("INT64", [2, 2], [[1, 2, 3, 4]], "neither flat nor nested"),
    ("INT64", [2, 2], [[1, 2], 3], "neither flat nor nested"),
    ("INT64", [2], [[1, 2]], "neither flat nor nested"),
    ("INT64", [1, 1], [[[1]]], "must be integers"),
]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"), BAD_JSON, ids=[f"{r[0]}-{r[3][:20]}" for r in BAD_JSON]
)
def test_wrong_json_data_is_refused(datatype: str, shape: list[int], data: Any, message: str) -> None:
    with pytest.raises(InferenceError) as caught:
        from_json("x", datatype, shape, data)
    assert message in str(caught.value)


def test_values_without_a_json_form_are_refused() -> None:
    with pytest.raises(InferenceError, match="NaN or infinite"):
        to_json("y", np.array([np.nan], np.float32))
    with pytest.raises(InferenceError, match="not UTF-8"):
        to_json("y", np.array([b"\xff"], object))


@given(
    datatype=st.sampled_from(list(DTYPES)),
    shape=st.lists(st.integers(-1, 2**63), max_size=20) | st.lists(st.integers(0, 4), max_size=3),
    data=st.binary(max_size=64),
)
def test_any_bytes_give_an_array_of_the_shape_or_an_error(
    datatype: str, shape: list[int], data: bytes
) -> None:
    try:
        array = from_binary("x", datatype, shape, data)
    except InferenceError:
        return
    assert array.shape == tuple(shape)
    assert array.dtype == DTYPES[datatype]
    assert to_binary(array) == data
