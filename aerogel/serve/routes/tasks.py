"""Routes for tasks without a common convention: tagging, answering questions, filling masks."""

from __future__ import annotations

from typing import Any

from aerogel.serve.endpoint import Endpoint
from aerogel.serve.exchange import Exchange
from aerogel.serve.reply import Reply, json_reply
from aerogel.serve.routes._inputs import BOOL, COUNT, TEXT, TEXTS, as_list, characters, optional
from aerogel.system.json_fields import Either, OneOf

__all__ = ["ROUTES"]

_TAG = {
    "inputs": TEXTS,
    "model?": TEXT,
    "truncate?": BOOL,
    "aggregate?": optional(Either(bool, OneOf("first", "simple", "none"))),
}
_ANSWER = {
    "question": str,
    "context": str,
    "model?": TEXT,
    "top_k?": COUNT,
    "max_answer_length?": COUNT,
    "stride?": COUNT,
    "null_threshold?": optional(float),
}
_FILL = {"inputs": str, "model?": TEXT, "truncate?": BOOL, "top_k?": COUNT}


async def _tag(exchange: Exchange) -> Reply:
    body = await exchange.json(_TAG)
    texts = as_list(body["inputs"])
    found = await exchange.run(
        exchange.model(body.get("model"), "tag"),
        "tag",
        texts,
        characters=characters(texts),
        truncate=body.get("truncate"),
        **_given(body, "aggregate"),
    )
    spans = [[span._asdict() for span in each] for each in found]
    return json_reply(spans if isinstance(body["inputs"], list) else spans[0])


async def _answer(exchange: Exchange) -> Reply:
    body = await exchange.json(_ANSWER)
    found = await exchange.run(
        exchange.model(body.get("model"), "answer"),
        "answer",
        body["question"],
        body["context"],
        characters=len(body["question"]) + len(body["context"]),
        **_given(body, "top_k", "max_answer_length", "stride", "null_threshold"),
    )
    return json_reply([answer._asdict() for answer in found])


async def _fill_mask(exchange: Exchange) -> Reply:
    body = await exchange.json(_FILL)
    found = await exchange.run(
        exchange.model(body.get("model"), "fill_mask"),
        "fill_mask",
        body["inputs"],
        characters=len(body["inputs"]),
        truncate=body.get("truncate"),
        **_given(body, "top_k"),
    )
    return json_reply([guess._asdict() for guess in found])


def _given(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """The options of a body that have a value."""
    return {name: body[name] for name in names if body.get(name) is not None}


ROUTES = [
    Endpoint("POST", "/v1/tag", _tag, "Find entities and other labelled spans.", body=_TAG, label="tag"),
    Endpoint(
        "POST", "/v1/answer", _answer, "Answer a question from a context.", body=_ANSWER, label="answer"
    ),
    Endpoint("POST", "/v1/fill-mask", _fill_mask, "Predict a masked word.", body=_FILL, label="fill-mask"),
]
