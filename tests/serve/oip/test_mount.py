"""The protocol in `aerogel serve`, by the public client of Triton."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

import aerogel

IDS = np.array([[2, 7, 8, 3], [2, 9, 3, 0]])


def client_of(server: Any) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(f"127.0.0.1:{server.port}")


def tensors(feed: dict[str, np.ndarray]) -> list[triton.InferInput]:
    found = []
    for name, array in feed.items():
        tensor = triton.InferInput(name, list(array.shape), "INT64")
        tensor.set_data_from_numpy(array)
        found.append(tensor)
    return found


def feed_of(folder: Path) -> dict[str, np.ndarray]:
    known = {
        "input_ids": IDS,
        "attention_mask": (IDS != 0).astype(np.int64),
        "token_type_ids": np.zeros_like(IDS),
    }
    session = aerogel.session(next(folder.glob("*.onnx")), threads=1)
    return {value.name: known[value.name] for value in session.get_inputs()}


def test_the_public_client_gets_what_the_session_gives(server: Any, folders: dict[str, Path]) -> None:
    client = client_of(server)
    assert client.is_server_live()
    assert client.is_server_ready()
    name, folder = next(iter(folders.items()))
    assert client.is_model_ready(name)
    session = aerogel.session(next(folder.glob("*.onnx")), threads=1)
    outputs = [value.name for value in session.get_outputs()]
    assert [output["name"] for output in client.get_model_metadata(name)["outputs"]] == outputs
    feed = feed_of(folder)
    answer = client.infer(name, tensors(feed))
    for output, expected in zip(outputs, session.run(None, feed), strict=True):
        np.testing.assert_allclose(answer.as_numpy(output), expected, atol=1e-6)
    assert "te_request_count" in server.client.get("/metrics").text


def test_unknown_models_and_impossible_shapes_are_refused(server: Any, folders: dict[str, Path]) -> None:
    client = client_of(server)
    name, folder = next(iter(folders.items()))
    with pytest.raises(InferenceServerException, match="nowhere"):
        client.get_model_metadata("nowhere")
    feed = feed_of(folder) | {"attention_mask": np.ones((3, 7), np.int64)}
    with pytest.raises(InferenceServerException) as caught:
        client.infer(name, tensors(feed))
    assert caught.value.status() == "400"
    long = {key: np.ones((1, 5000), np.int64) for key in feed}
    with pytest.raises(InferenceServerException) as caught:
        client.infer(name, tensors(long))
    assert caught.value.status() == "413"


def test_the_routes_ask_for_a_key(
    serve: Callable[..., Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("correct-horse-battery\n")
    name, folder = next(iter(folders.items()))
    server = serve(f"{name}={folder}", api_key_file=keys)
    assert server.client.get(f"/v2/models/{name}").status_code == 401
    headers = {"authorization": "Bearer correct-horse-battery"}
    assert server.client.get(f"/v2/models/{name}", headers=headers).json()["name"] == name
    assert server.client.get("/v2/health/ready").status_code == 200
    assert server.client.get(f"/v2/models/{name}/infer", headers=headers).status_code == 405
