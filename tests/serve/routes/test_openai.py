"""OpenAI's routes, used by OpenAI's own client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

import aerogel

TEXTS = ["the film was good", "a"]


@pytest.fixture
def client(server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_embeddings(client: openai.OpenAI, folders: dict[str, Path]) -> None:
    model = aerogel.load(folders["embedder"], threads=1)
    expected = model.embed(TEXTS)
    # The client asks for base64.
    found = client.embeddings.create(model="embedder", input=TEXTS)
    np.testing.assert_array_equal(np.array([item.embedding for item in found.data], np.float32), expected)
    assert [item.index for item in found.data] == [0, 1]
    assert (found.object, found.model) == ("list", "embedder")
    assert found.usage.prompt_tokens == found.usage.total_tokens == sum(map(len, model.tokenize(TEXTS)))
    as_floats = client.embeddings.create(
        model="embedder", input=TEXTS[0], encoding_format="float", dimensions=8
    )
    np.testing.assert_array_equal(
        np.array(as_floats.data[0].embedding, np.float32), model.embed(TEXTS[:1], dimensions=8)[0]
    )


def test_token_ids(client: openai.OpenAI, folders: dict[str, Path]) -> None:
    model = aerogel.load(folders["embedder"], threads=1)
    ids = [item.ids.tolist() for item in model.tokenize(TEXTS)]
    expected = model.embed(TEXTS)
    for inputs, rows in ((ids, expected), (ids[0], expected[:1])):
        found = client.embeddings.create(model="embedder", input=inputs)
        np.testing.assert_array_equal(np.array([item.embedding for item in found.data], np.float32), rows)


def test_base64_is_little_endian_float32(server: Any, folders: dict[str, Path]) -> None:
    body = {"model": "embedder", "input": "a", "encoding_format": "base64"}
    (item,) = server.post("/v1/embeddings", body).json()["data"]
    vector = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
    np.testing.assert_array_equal(vector, aerogel.load(folders["embedder"], threads=1).embed(["a"])[0])


def test_models(client: openai.OpenAI, folders: dict[str, Path]) -> None:
    assert [model.id for model in client.models.list()] == list(folders)
    assert client.models.retrieve("reader").owned_by == "aerogel"


def test_errors_are_those_of_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="unknown model 'nope'"):
        client.embeddings.create(model="nope", input="a")
    with pytest.raises(openai.UnprocessableEntityError, match="no embed"):
        client.embeddings.create(model="tagger", input="a")
    with pytest.raises(openai.BadRequestError, match="the list of inputs is empty"):
        client.embeddings.create(model="embedder", input=[])
