from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from tritonclient.utils import InferenceServerException

from aerogel.serve.oip.datatypes import DTYPES, Tensor
from aerogel.serve.oip.model import ServedModel, from_session
from aerogel.serve.oip.routes import routes

MAX_BYTES = 1 << 16


async def echo(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
    return {name: inputs[name] for name in outputs}


def echoing() -> ServedModel:
    """A model with an input and an equal output of each type."""
    tensors = [Tensor(name, name, (-1,)) for name in DTYPES]
    return ServedModel("echo", tensors, tensors, echo)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["ids"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["text"], ["same"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cast",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"]),
            helper.make_tensor_value_info("text", TensorProto.STRING, ["texts"]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence"]),
            helper.make_tensor_value_info("same", TensorProto.STRING, ["texts"]),
        ],
    )
    path = tmp_path_factory.mktemp("oip") / "cast.onnx"
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]), path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def address(session: onnxruntime.InferenceSession) -> Iterator[str]:
    """Address of a running server with two models."""
    models = {"echo": echoing(), "cast": from_session("cast", session, max_length=8)}
    app = Starlette(routes=routes(models.get, max_bytes=MAX_BYTES))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    # Connections wait in the backlog until the server accepts them.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(address)
    yield client
    client.close()


def sample(datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([b"a", b"", b"long \xc3\xa9"], object)
    return np.array([0, 1, 1], DTYPES[datatype])


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tritonclient_gets_back_every_type(
    client: triton.InferenceServerClient, binary: bool, compression: str | None
) -> None:
    # tritonclient sends FP16 in the binary form only, as the protocol says.
    inputs = []
    for name in DTYPES:
        inputs.append(triton.InferInput(name, [3], name))
        inputs[-1].set_data_from_numpy(sample(name), binary_data=binary or name == "FP16")
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in DTYPES]
    found = client.infer(
        "echo", inputs, outputs=outputs, request_id="r1", request_compression_algorithm=compression
    )
    assert found.get_response()["id"] == "r1"
    for name in DTYPES:
        array = found.as_numpy(name)
        if name == "BYTES" and not binary:
            array = np.array([text.encode() for text in array], object)
        assert array.dtype == DTYPES[name]
        np.testing.assert_array_equal(array, sample(name))


def test_tritonclient_runs_a_session(client: triton.InferenceServerClient) -> None:
    ids, text = triton.InferInput("ids", [2, 3], "INT64"), triton.InferInput("text", [1], "BYTES")
    ids.set_data_from_numpy(np.arange(6).reshape(2, 3))
    text.set_data_from_numpy(np.array(["é"], object))
    found = client.infer("cast", [ids, text], model_version="1")
    np.testing.assert_array_equal(found.as_numpy("y"), np.arange(6, dtype=np.float32).reshape(2, 3))
    assert found.as_numpy("same").tolist() == ["é".encode()]


def test_tritonclient_reads_states_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("cast")
    assert not client.is_model_ready("gone")
    assert not client.is_model_ready("cast", "2")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("cast", "1") == {
        "name": "cast",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "text", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [-1, -1]},
            {"name": "same", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def test_tritonclient_reads_errors(client: triton.InferenceServerClient) -> None:
    ids = triton.InferInput("ids", [1, 9], "INT64")
    ids.set_data_from_numpy(np.zeros((1, 9), np.int64))
    text = triton.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array([b"\xff"], object))
    with pytest.raises(InferenceServerException, match="input ids: 9 tokens; the model takes at most 8"):
        client.infer("cast", [ids, text])
    with pytest.raises(InferenceServerException, match="unknown model 'gone'"):
        client.infer("gone", [ids])
    short = triton.InferInput("ids", [1, 1], "INT64")
    short.set_data_from_numpy(np.zeros((1, 1), np.int64))
    with pytest.raises(InferenceServerException, match="input text: text must be UTF-8"):
        client.infer("cast", [short, text])
    with pytest.raises(InferenceServerException, match="the model has no output 'z'; it has y, same"):
        client.infer("cast", [short, text], outputs=[triton.InferRequestedOutput("z")])


def test_a_server_that_is_not_ready_says_so() -> None:
    app = Starlette(routes=routes({}.get, lambda: False))

    async def ask() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return [
                (await client.get(path)).status_code
                for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready")
            ]

    assert asyncio.run(ask()) == [200, 503, 404]


def test_a_model_that_cannot_run_the_inputs_is_an_error_of_the_request(tmp_path: Path) -> None:
    class Session:
        def get_inputs(self) -> list[Any]:
            return []

        def get_outputs(self) -> list[Any]:
            return []

        def run(self, *_: Any) -> Any:
            raise RuntimeError(f"index 9 is out of range\nin {tmp_path}")

    app = Starlette(routes=routes({"m": from_session("m", Session())}.get))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post("/v2/models/m/infer", json={"inputs": []})

    found = asyncio.run(ask())
    assert (found.status_code, list(found.json())) == (400, ["error"])
    assert "\n" not in found.json()["error"]


def bomb() -> bytes:
    return gzip.compress(b" " * (MAX_BYTES * 20))


BODIES: list[tuple[bytes, dict[str, str], int]] = [
    (b" " * (MAX_BYTES + 1), {}, 413),
    (bomb(), {"content-encoding": "gzip"}, 413),
    (b"garbage", {"content-encoding": "gzip"}, 400),
    (gzip.compress(b"{}")[:-4], {"content-encoding": "gzip"}, 400),
    (zlib.compress(b"{}") + b"more", {"content-encoding": "deflate"}, 400),
    (b"{}", {"content-encoding": "br"}, 415),
    (b"", {}, 400),
]


@pytest.mark.parametrize(("body", "headers", "status"), BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_are_bounded(
    address: str, body: bytes, headers: dict[str, str], status: int, chunked: bool
) -> None:
    content: Any = iter([body]) if chunked else body
    found = httpx.post(f"http://{address}/v2/models/echo/infer", content=content, headers=headers)
    assert found.status_code == status
    assert list(found.json()) == ["error"]


SIZES = st.integers(0, 4) | st.sampled_from([-1, 2**31, 2**40, 2**63, 10**30])
ITEMS = st.fixed_dictionaries(
    {"name": st.sampled_from(list(DTYPES)), "shape": st.lists(SIZES, max_size=2) | st.just([1])},
    optional={
        "datatype": st.sampled_from([*DTYPES, "BF16"]),
        "data": st.lists(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2), max_size=3
        ),
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "x"]),
            SIZES | st.booleans() | st.text(max_size=2),
            max_size=2,
        ),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"inputs": st.lists(ITEMS, max_size=4)},
    optional={
        "id": st.text(max_size=3),
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(list(DTYPES))})),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS, tail=st.binary(max_size=40), lie=st.sampled_from([0, 0, 0, -1, 1, 7]))
def test_no_frame_makes_the_server_fail(address: str, document: Any, tail: bytes, lie: int) -> None:
    head = json.dumps(document).encode()
    found = httpx.post(
        f"http://{address}/v2/models/echo/infer",
        content=head + tail,
        headers={"Inference-Header-Content-Length": str(len(head) + lie)},
    )
    assert found.status_code in (200, 400)
    if found.status_code == 400:
        assert list(found.json()) == ["error"]


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=24), size=st.integers(0, 30), count=st.integers(0, 5),
    name=st.sampled_from(["INT8", "INT64", "FP16", "BOOL", "BYTES"]),
)  # fmt: skip
def test_a_frame_is_answered_if_and_only_if_it_is_true(data: bytes, size: int, count: int, name: str) -> None:
    tensor = Tensor(name, name, (-1,))
    app = Starlette(routes=routes({"m": ServedModel("m", [tensor], [tensor], echo)}.get))
    item = {"name": name, "datatype": name, "shape": [count], "parameters": {"binary_data_size": size}}
    document = {"inputs": [item], "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            headers = {"Inference-Header-Content-Length": str(len(head))}
            return await client.post("/v2/models/m/infer", content=head + data, headers=headers)

    found = asyncio.run(ask())
    true = size == len(data)
    if name == "BYTES":
        true = true and framed(data, count)
    else:
        true = (
            true
            and size == count * DTYPES[name].itemsize
            and not (name == "BOOL" and max(data, default=0) > 1)
        )
    assert found.status_code == (200 if true else 400)
    if true:
        assert found.content[int(found.headers["Inference-Header-Content-Length"]) :] == data


def framed(data: bytes, count: int) -> bool:
    """Whether bytes are exactly `count` byte strings with their lengths."""
    for _ in range(count):
        length = int.from_bytes(data[:4], "little")
        if len(data) < 4 + length:
            return False
        data = data[4 + length :]
    return not data
