from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from aerogel.serve.oip import messages
from aerogel.serve.oip.datatypes import DTYPES, Tensor
from aerogel.serve.oip.grpc_service import _typed, service
from aerogel.serve.oip.messages import CONTENTS, message
from aerogel.serve.oip.model import ServedModel

INFER = "/inference.GRPCInferenceService/ModelInfer"


async def echo(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
    return {name: inputs[name] for name in outputs}


def model(name: str, datatypes: Sequence[str], **options: Any) -> ServedModel:
    tensors = [Tensor(datatype, datatype, (-1,)) for datatype in datatypes]
    return ServedModel(name, tensors, tensors, echo, **options)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of a running server."""
    wide = ServedModel("wide", [Tensor("x", "INT8", (-1, -1))], [], echo, max_length=2)
    models = {"echo": model("echo", list(DTYPES)), "one": model("one", ["INT32"]), "wide": wide}
    port: list[int] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> grpc.aio.Server:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((service(models.get),))
        port.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        return server

    def run() -> None:
        server = loop.run_until_complete(serve())
        started.set()
        loop.run_forever()
        loop.run_until_complete(server.stop(None))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(30)
    yield f"127.0.0.1:{port[0]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(address)
    yield client
    client.close()


@pytest.fixture
def call(address: str) -> Iterator[Callable[[bytes], Any]]:
    """Send the bytes of a request, and return the answer or raise grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        yield channel.unary_unary(INFER, None, message("ModelInferResponse").FromString)


@pytest.mark.parametrize("name", messages._MESSAGES)
def test_fields_have_the_numbers_and_types_of_the_public_client(name: str) -> None:
    outer, *inner = name.split(".")
    public = getattr(service_pb2, outer)
    for part in inner:
        public = getattr(public, part)
    known = {field.name: field for field in public.DESCRIPTOR.fields}
    own = message(name).DESCRIPTOR.fields
    assert [field.name for field in own] == [field for field, _ in messages._MESSAGES[name]]
    for field in own:
        other = known[field.name]
        assert (field.number, field.type) == (other.number, other.type)
        assert (field.is_repeated, bool(field.containing_oneof)) == (
            other.is_repeated,
            bool(other.containing_oneof),
        )
        if field.message_type:
            assert field.message_type.full_name == other.message_type.full_name


def sample(datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([b"a", b"", b"\xff\0"], object)
    return np.array([0, 1, 1], DTYPES[datatype])


def test_tritonclient_gets_back_every_type(client: triton.InferenceServerClient) -> None:
    inputs = []
    for name in DTYPES:
        inputs.append(triton.InferInput(name, [3], name))
        inputs[-1].set_data_from_numpy(sample(name))
    outputs = [triton.InferRequestedOutput(name) for name in DTYPES]
    for asked in (outputs, None):
        found = client.infer("echo", inputs, outputs=asked, request_id="r1", model_version="1")
        assert found.get_response().id == "r1"
        for name in DTYPES:
            assert found.as_numpy(name).dtype == DTYPES[name]
            np.testing.assert_array_equal(found.as_numpy(name), sample(name))


def test_tritonclient_reads_states_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    with pytest.raises(InferenceServerException, match="unknown model 'gone'"):
        client.get_model_metadata("gone")
    assert client.get_server_metadata(as_json=True)["name"] == "aerogel"
    found = client.get_model_metadata("one", as_json=True)
    assert found["inputs"] == [{"name": "INT32", "datatype": "INT32", "shape": ["-1"]}]
    assert found["versions"] == ["1"]


def request_of(name: str, **changes: Any) -> Any:
    item = {"name": name, "datatype": name, "shape": [3], **changes.pop("item", {})}
    return message("ModelInferRequest")(model_name="one", inputs=[item], **changes)


@pytest.mark.parametrize("name", CONTENTS)
def test_typed_contents_of_every_type(name: str, call: Callable[[bytes], Any]) -> None:
    inputs = []
    for other, field in CONTENTS.items():
        inputs.append(
            {"name": other, "datatype": other, "shape": [3], "contents": {field: sample(other).tolist()}}
        )
    half = {"name": "FP16", "datatype": "FP16", "shape": [3]}
    request = message("ModelInferRequest")(model_name="echo", inputs=[*inputs, half])
    with pytest.raises(grpc.RpcError, match="FP16 must be in raw_input_contents"):
        call(request.SerializeToString())
    tensor = message("ModelInferRequest.InferInputTensor")(**inputs[list(CONTENTS).index(name)])
    np.testing.assert_array_equal(_typed(name, name, [3], tensor.contents), sample(name))


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"raw_input_contents": [b"\0" * 11]}, "INVALID_ARGUMENT", "11 bytes, but INT32 of the shape [3] has 12"),
    ({"raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT", "2 raw_input_contents for 1 inputs"),
    ({}, "INVALID_ARGUMENT", "0 elements, but the shape [3] has 3"),
    ({"item": {"shape": [-3]}}, "INVALID_ARGUMENT", "has a negative size"),
    ({"item": {"shape": [2**62]}}, "INVALID_ARGUMENT", "is too large"),
    ({"item": {"shape": [3, 1]}}, "INVALID_ARGUMENT", "does not fit the model's [-1]"),
    ({"item": {"datatype": "INT64"}}, "INVALID_ARGUMENT", "INT64, but the model takes INT32"),
    (
        {"item": {"contents": {"int64_contents": [1, 2, 3]}}},
        "INVALID_ARGUMENT",
        "INT32 belongs in int_contents",
    ),
    ({"item": {"name": "x"}}, "INVALID_ARGUMENT", "the model has no input 'x'; it has INT32"),
    ({"model_version": "7"}, "NOT_FOUND", "has no version '7'"),
    ({"parameters": {"sequence_id": {"int64_param": 3}}}, "INVALID_ARGUMENT", "sequence_id is not supported"),
]


@pytest.mark.parametrize(("changes", "status", "text"), BAD, ids=[row[2][:24] for row in BAD])
def test_malformed_requests_are_refused(
    call: Callable[[bytes], Any], changes: dict[str, Any], status: str, text: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(request_of("INT32", **changes).SerializeToString())
    assert caught.value.code().name == status
    assert text in caught.value.details()


def test_long_sequences_are_refused(call: Callable[[bytes], Any]) -> None:
    item = {"name": "x", "datatype": "INT8", "shape": [1, 3]}
    request = message("ModelInferRequest")(model_name="wide", inputs=[item], raw_input_contents=[b"abc"])
    with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
        call(request.SerializeToString())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=24), count=st.integers(0, 6))
def test_a_frame_is_answered_if_and_only_if_it_is_true(
    call: Callable[[bytes], Any], data: bytes, count: int
) -> None:
    request = request_of("INT32", item={"shape": [count]}, raw_input_contents=[data]).SerializeToString()
    if len(data) == 4 * count:
        assert call(request).raw_output_contents[0] == data
    else:
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            call(request)
