"""Reranking by the clients of Cohere, and as text-embeddings-inference does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest

import aerogel

TWICE = "give the texts to rank once, as texts or as documents"
TOP_N = "top_n is 0, not an integer from 1 up to 2147483648 or null"
QUERY, TEXTS = "good film", ["bad", "the film was very good", "not", "a film"]


def test_tei(server: Any, folders: dict[str, Path]) -> None:
    ranked = aerogel.load(folders["ranker"], threads=1).rerank(QUERY, TEXTS)
    expected = [{"index": item.index, "score": item.score} for item in ranked]
    assert server.post("/rerank", {"query": QUERY, "texts": TEXTS}).json() == expected
    found = server.post(
        "/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True, "raw_scores": True}
    ).json()
    assert [item["text"] for item in found] == [TEXTS[item.index] for item in ranked]
    raw = aerogel.load(folders["ranker"], threads=1).rerank(QUERY, TEXTS, raw_scores=True)
    assert [item["score"] for item in found] == [item.score for item in raw]


@pytest.mark.parametrize("kind", [cohere.Client, cohere.ClientV2])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cohere(server: Any, folders: dict[str, Path], kind: Any) -> None:
    ranked = aerogel.load(folders["ranker"], threads=1).rerank(QUERY, TEXTS, top_n=2)
    with httpx.Client(timeout=60) as connection:
        client = kind(api_key="unused", base_url=server.url, httpx_client=connection)
        found = client.rerank(model="ranker", query=QUERY, documents=TEXTS, top_n=2)
    assert [(item.index, item.relevance_score) for item in found.results] == [tuple(item) for item in ranked]


def test_jina(server: Any) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": [{"text": text} for text in TEXTS]}
    found = server.post("/v1/rerank", {**body, "return_documents": True, "top_n": 1}).json()
    (item,) = found["results"]
    assert item["document"]["text"] == TEXTS[item["index"]]
    assert found["usage"]["total_tokens"] > 0
    assert "document" not in server.post("/rerank", body).json()["results"][0]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"query": "a"}, 422, TWICE),
        ({"query": "a", "texts": ["b"], "documents": ["b"]}, 422, TWICE),
        ({"query": "a", "texts": []}, 400, "the list of inputs is empty; send at least one text"),
        ({"query": "a", "documents": ["b"], "top_n": 0}, 422, TOP_N),
        ({"query": None, "texts": ["b"]}, 422, "query is null, not text"),
    ],
)  # fmt: skip
def test_bad_bodies_get_one_line(server: Any, body: Any, status: int, message: str) -> None:
    reply = server.post("/v1/rerank", body)
    assert (reply.status_code, reply.json()) == (status, {"message": message})
