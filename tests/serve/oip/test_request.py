from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from aerogel.serve.oip.datatypes import InferenceError, Tensor
from aerogel.serve.oip.request import parse_request

TENSORS = [Tensor("ids", "INT64", (-1, -1)), Tensor("mask", "INT64", (-1, 2))]
IDS: dict[str, Any] = {"name": "ids", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}
MASK: dict[str, Any] = {"name": "mask", "datatype": "INT64", "shape": [1, 2], "data": [[1, 1]]}


def binary(item: dict[str, Any], size: Any = 16) -> dict[str, Any]:
    return {
        **{key: value for key, value in item.items() if key != "data"},
        "parameters": {"binary_data_size": size},
    }


def test_json_and_binary_inputs_may_be_mixed() -> None:
    head = json.dumps({"id": "7", "inputs": [binary(MASK), IDS], "outputs": [{"name": "y"}]}).encode()
    tail = np.array([[1, 0]], "<i8").tobytes()
    request = parse_request(head + tail, str(len(head)), TENSORS)
    assert request.id == "7"
    np.testing.assert_array_equal(request.inputs["ids"], [[1, 2]])
    np.testing.assert_array_equal(request.inputs["mask"], [[1, 0]])
    assert request.outputs == {"y": False}


def test_outputs_are_binary_if_the_request_or_the_output_says_so() -> None:
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    document = {"inputs": [IDS, MASK], "outputs": outputs, "parameters": {"binary_data_output": True}}
    request = parse_request(json.dumps(document).encode(), None, TENSORS)
    assert request.outputs == {"a": True, "b": False}
    del document["outputs"]
    request = parse_request(json.dumps(document).encode(), None, TENSORS)
    assert (request.outputs, request.binary) == (None, True)


BAD: list[tuple[Any, str]] = [
    ([], "the document is [], not an object"),
    ({}, "inputs is missing"),
    ({"inputs": {}}, "inputs is an object of 0 fields, not a list"),
    ({"inputs": []}, "the request has no input ids"),
    ({"inputs": [IDS]}, "the request has no input mask"),
    ({"inputs": [IDS, IDS, MASK]}, "input ids is given twice"),
    ({"inputs": [IDS, MASK, {**IDS, "name": "more"}]}, "the model has no input 'more'; it has ids, mask"),
    ({"inputs": [{**IDS, "datatype": "INT32"}, MASK]}, "input ids: INT32, but the model takes INT64"),
    ({"inputs": [{**IDS, "datatype": "BF16"}, MASK]}, "inputs[0].datatype is"),
    ({"inputs": [{**IDS, "shape": [2]}, MASK]}, "the shape [2] does not fit the model's [-1, -1]"),
    ({"inputs": [IDS, {**MASK, "shape": [1, 3]}]}, "the shape [1, 3] does not fit the model's [-1, 2]"),
    ({"inputs": [{**IDS, "shape": [1, -2]}, MASK]}, "inputs[0].shape[1] is -2"),
    ({"inputs": [{**IDS, "shape": [True, 2]}, MASK]}, "inputs[0].shape[0] is true"),
    ({"inputs": [{**IDS, "shape": [1.0, 2]}, MASK]}, "inputs[0].shape[0] is 1.0"),
    ({"inputs": [{**IDS, "data": "aa"}, MASK]}, "inputs[0].data is"),
    ({"inputs": [binary(IDS), MASK]}, "binary_data_size must be an integer up to 0"),
    ({"inputs": [{**binary(IDS, 0), "data": []}, MASK]}, "has both data and binary_data_size"),
    ({"inputs": [binary(IDS, True), MASK]}, "binary_data_size must be an integer"),
    ({"inputs": [binary(IDS, -1), MASK]}, "binary_data_size must be an integer"),
    ({"inputs": [{key: IDS[key] for key in ("name", "shape", "datatype")}, MASK]}, "has neither data nor binary"),
    ({"inputs": [{**IDS, "parameters": {"shared_memory_region": "x"}}, MASK]}, "shared_memory_region is not supported"),
    ({"inputs": [IDS, MASK], "parameters": {"sequence_id": 3}}, "sequence_id is not supported"),
    ({"inputs": [IDS, MASK], "parameters": {"binary_data_output": 1}}, "binary_data_output must be true or false"),
    ({"inputs": [IDS, MASK], "outputs": [{"name": "y"}, {"name": "y"}]}, "output y is requested twice"),
    ({"inputs": [IDS, MASK], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}, "classification is not"),
    ({"inputs": [IDS, MASK], "id": 5}, "id is 5, not text"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "message"), BAD, ids=[f"{n}-{row[1][:24]}" for n, row in enumerate(BAD)]
)
def test_malformed_requests_are_refused(document: Any, message: str) -> None:
    with pytest.raises(InferenceError) as caught:
        parse_request(json.dumps(document).encode(), None, TENSORS)
    assert message in str(caught.value)
    assert caught.value.status == 400


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", "0x1", "", "9999999", "٣", "1.0", "9" * 30])
def test_a_lying_header_length_is_refused(length: str) -> None:
    with pytest.raises(
        InferenceError, match="Inference-Header-Content-Length must be a number of bytes up to"
    ):
        parse_request(json.dumps({"inputs": [IDS, MASK]}).encode(), length, TENSORS)


def test_bytes_after_the_tensors_are_refused() -> None:
    head = json.dumps({"inputs": [IDS, MASK]}).encode()
    with pytest.raises(InferenceError, match="1 bytes after the last binary tensor"):
        parse_request(head + b"x", str(len(head)), TENSORS)


def test_binary_tensors_cannot_overlap_or_share_bytes() -> None:
    head = json.dumps({"inputs": [binary(IDS), binary(MASK)]}).encode()
    with pytest.raises(InferenceError, match="input mask: binary_data_size must be an integer up to 0"):
        parse_request(head + b"\0" * 16, str(len(head)), TENSORS)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'{"inputs": NaN}', b"[" * 100000])
def test_bodies_that_are_not_json_are_refused(text: bytes) -> None:
    with pytest.raises(InferenceError, match="the request is malformed"):
        parse_request(text, None, TENSORS)
