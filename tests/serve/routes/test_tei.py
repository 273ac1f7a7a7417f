"""Routes of text-embeddings-inference, compared with `aerogel.load`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

import aerogel

NONE = "unknown model {!r}; /v1/models lists them"
SPARSE = "no model of this server has embed_sparse(); /v1/models lists what each does"
TEXTS = ["the film was good", "a", "", "it is not a good film " * 8]


def _same(found: Any, expected: np.ndarray) -> bool:
    """Whether JSON numbers are the float32 values, to the bit."""
    return np.array_equal(np.array(found, np.float32), expected)


def test_embed(server: Any, folders: dict[str, Path]) -> None:
    expected = aerogel.load(folders["embedder"], threads=1).embed(TEXTS)
    reply = server.post("/embed", {"inputs": TEXTS})
    assert reply.status_code == 200
    assert _same(reply.json(), expected)
    assert _same(server.post("/embed", {"inputs": TEXTS[0]}).json(), expected[:1])
    assert reply.headers["x-compute-type"] == "cpu"
    assert int(reply.headers["x-compute-characters"]) == sum(map(len, TEXTS))
    tokens = [len(item) for item in aerogel.load(folders["embedder"]).tokenize(TEXTS)]
    assert int(reply.headers["x-compute-tokens"]) == sum(tokens)
    for name in ("compute", "total", "tokenization", "queue", "inference"):
        assert int(reply.headers[f"x-{name}-time"]) >= 0


def test_embed_options(server: Any, folders: dict[str, Path]) -> None:
    model = aerogel.load(folders["embedder"], threads=1)
    body = {"inputs": TEXTS[:2], "dimensions": 8, "prompt_name": "query", "normalize": None, "truncate": True}
    assert _same(server.post("/embed", body).json(), model.embed(TEXTS[:2], dimensions=8, prompt="query"))
    plain = aerogel.load(folders["plain"], threads=1)
    for normalize in (True, False):
        reply = server.post("/embed?model=plain", {"inputs": TEXTS, "normalize": normalize})
        assert _same(reply.json(), plain.embed(TEXTS, normalize=normalize))
    ids = [item.ids.tolist() for item in model.tokenize(TEXTS[:2])]
    assert _same(server.post("/embed", {"inputs": ids}).json(), model.embed(TEXTS[:2]))


def test_truncation(server: Any, folders: dict[str, Path]) -> None:
    model = aerogel.load(folders["embedder"], threads=1)
    long = " ".join(["good", "bad", "film", "not"] * 40)
    right, left = model.embed([long]), model.embed(model.tokenize([long], side="left"))
    assert not np.array_equal(right, left)
    assert _same(server.post("/embed", {"inputs": long}).json(), right)
    assert _same(server.post("/embed", {"inputs": long, "truncation_direction": "Left"}).json(), left)
    reply = server.post("/embed", {"inputs": ["a", long], "truncate": False})
    assert reply.status_code == 413
    assert reply.json() == {
        "error": "text 1 has more than 64 tokens, the limit of the model; shorten it or set truncate",
        "error_type": "Validation",
    }


def test_embed_all(server: Any, folders: dict[str, Path]) -> None:
    expected = aerogel.load(folders["plain"], threads=1).embed_tokens(TEXTS)
    found = server.post("/embed_all", {"inputs": TEXTS}).json()
    assert all(_same(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_predict(server: Any, folders: dict[str, Path]) -> None:
    model = aerogel.load(folders["sentiment"], threads=1)
    for inputs, texts in (
        ("good", ["good"]),
        (["good", "bad"], [("good", "bad")]),
        ([["good"], ["good", "bad"]], ["good", ("good", "bad")]),
    ):
        for raw in (False, True):
            expected = [
                [{"label": item.label, "score": item.score} for item in labels]
                for labels in model.classify(texts, raw_scores=raw)
            ]
            found = server.post("/predict", {"inputs": inputs, "raw_scores": raw}).json()
            assert found == (expected if isinstance(inputs[0], list) else expected[0])


def test_similarity(server: Any, folders: dict[str, Path]) -> None:
    vectors = aerogel.load(folders["embedder"], threads=1).embed(["good", "bad", "film"])
    body = {"inputs": {"source_sentence": "good", "sentences": ["bad", "film"]}}
    np.testing.assert_allclose(server.post("/similarity", body).json(), vectors[1:] @ vectors[0], rtol=1e-6)


def test_tokenize_and_decode(server: Any) -> None:
    (tokens,) = server.post("/tokenize", {"inputs": "Good film"}).json()
    assert [token["text"] for token in tokens] == ["[CLS]", "good", "film", "[SEP]"]
    assert tokens[0] == {"id": 2, "text": "[CLS]", "special": True, "start": None, "stop": None}
    assert (tokens[2]["start"], tokens[2]["stop"]) == (5, 9)
    (bare,) = server.post("/tokenize", {"inputs": ["Good film"], "add_special_tokens": False}).json()
    assert bare == tokens[1:3]
    (prompted,) = server.post("/tokenize", {"inputs": "good", "prompt_name": "query"}).json()
    assert [token["text"] for token in prompted] == ["[CLS]", "the", "film", ":", "good", "[SEP]"]
    ids = [token["id"] for token in tokens]
    assert server.post("/decode", {"ids": ids}).json() == ["good film"]
    body = {"ids": [ids, ids], "skip_special_tokens": False}
    assert server.post("/decode", body).json() == ["[CLS] good film [SEP]"] * 2


def test_long_texts_are_tokenized_whole(server: Any) -> None:
    (tokens,) = server.post("/tokenize", {"inputs": "good " * 500}).json()
    assert len(tokens) == 502


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/embed", {"inputs": []}, 400, "the list of inputs is empty; send at least one text"),
        ("/embed", {"inputs": 3}, 422, "inputs is 3, not text or a list"),
        ("/embed", {"inputs": ["a", None]}, 422, "inputs[1] is null, not text or a list"),
        ("/embed", {}, 422, "inputs is missing"),
        ("/embed", [], 422, "the document is [], not an object"),
        ("/embed", {"inputs": ["a", [1]]}, 422, "texts and token ids are mixed; send one kind at once"),
        ("/embed", {"inputs": [[10**6]]}, 422, "inputs[0] has the token id 1000000; the vocabulary has 123 tokens"),
        ("/embed", {"inputs": "a", "normalize": "yes"}, 422, 'normalize is "yes", not true or false or null'),
        ("/embed", {"inputs": "a", "dimensions": 33}, 422, "dimensions=33 must be an integer from 1 to 32"),
        ("/embed", {"inputs": "a", "prompt_name": "x"}, 422, "prompt='x' is not a prompt of the model; it has query"),
        ("/embed", {"inputs": "a", "model": "nope"}, 404, NONE.format("nope")),
        ("/embed", {"inputs": "a", "model": "../embedder"}, 404, NONE.format("../embedder")),
        ("/embed_sparse", {"inputs": "a"}, 422, SPARSE),
        ("/predict", {"inputs": [["a", "b", "c"]]}, 422,
         "inputs must be a string, a pair of strings, or a list of lists of one or two strings"),
        ("/decode", {"ids": [2**40]}, 422, f"ids[0] is {2**40}, not a list"),
    ],
)  # fmt: skip
def test_bad_bodies_get_one_line(server: Any, path: str, body: Any, status: int, message: str) -> None:
    reply = server.post(path, body)
    kind = "Empty" if status == 400 else "Validation"
    assert (reply.status_code, reply.json()) == (status, {"error": message, "error_type": kind})


def test_the_client_of_huggingface(serve: Any, folders: dict[str, Path]) -> None:
    server = serve(folders["embedder"])
    expected = aerogel.load(folders["embedder"], threads=1).embed(["good film"])
    with huggingface_hub.InferenceClient(model=server.url) as client:
        assert _same(client.feature_extraction("good film"), expected)


@pytest.mark.parametrize(
    ("name", "body"),
    [("sentiment", {"inputs": "good"}), ("ranker", {"query": "good", "texts": ["bad", "film"]})],
)
def test_the_address_itself_does_what_the_first_model_does(
    serve: Any, server: Any, folders: dict[str, Path], name: str, body: dict[str, Any]
) -> None:
    path = "/predict" if name == "sentiment" else "/rerank"
    expected = server.post(path, {**body, "model": name})
    assert expected.status_code == 200
    assert serve(folders[name]).post("/", body).json() == expected.json()
