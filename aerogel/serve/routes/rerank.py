"""Reranking as text-embeddings-inference, Cohere and Jina do it; ``texts`` or ``documents`` tells which is meant."""

from __future__ import annotations

from typing import Any

from aerogel.serve.endpoint import Endpoint
from aerogel.serve.exchange import Exchange
from aerogel.serve.refusals import Invalid
from aerogel.serve.reply import Reply, json_reply
from aerogel.serve.routes._inputs import BOOL, COUNT, TEXT, as_list, characters, optional
from aerogel.system.json_fields import Either

__all__ = ["ROUTES", "rerank"]

_RERANK = {
    "query": str,
    "texts?": optional([str]),
    "documents?": optional([Either(str, {"text": str})]),
    "model?": TEXT,
    "truncate?": BOOL,
    "raw_scores?": BOOL,
    "return_text?": BOOL,
    "top_n?": COUNT,
    "return_documents?": BOOL,
}


async def rerank(exchange: Exchange) -> Reply:
    """Rank texts or documents by a query."""
    body = await exchange.json(_RERANK)
    given = [name for name in ("texts", "documents") if body.get(name) is not None]
    if len(given) != 1:
        raise Invalid("give the texts to rank once, as texts or as documents")
    texts = [item if isinstance(item, str) else item["text"] for item in as_list(body[given[0]])]
    served = exchange.model(body.get("model"), "rerank")
    ranked = await exchange.run(
        served,
        "rerank",
        body["query"],
        texts,
        characters=characters(texts) + len(body["query"]) * len(texts),
        truncate=body.get("truncate"),
        top_n=body.get("top_n"),
        raw_scores=bool(body.get("raw_scores")),
    )
    if given[0] == "texts":
        return json_reply([_tei(item, texts if body.get("return_text") else None) for item in ranked])
    tokens = exchange.job.tokens if exchange.job else 0
    return json_reply(
        {
            "id": exchange.service.new_id(),
            "model": served.name,
            "results": [_cohere(item, texts if body.get("return_documents") else None) for item in ranked],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _tei(item: Any, texts: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"index": item.index, "score": item.score}
    return found if texts is None else {**found, "text": texts[item.index]}


def _cohere(item: Any, texts: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"index": item.index, "relevance_score": item.score}
    return found if texts is None else {**found, "document": {"text": texts[item.index]}}


ROUTES = [
    Endpoint("POST", "/rerank", rerank, "Rank texts or documents by a query.", body=_RERANK),
    Endpoint(
        "POST",
        "/v1/rerank",
        rerank,
        "Rank documents by a query.",
        style="message",
        body=_RERANK,
        label="rerank",
    ),
    Endpoint(
        "POST",
        "/v2/rerank",
        rerank,
        "Rank documents by a query.",
        style="message",
        body=_RERANK,
        label="rerank",
    ),
]
