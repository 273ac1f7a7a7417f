"""Routes of text-embeddings-inference, except for /rerank."""

from __future__ import annotations

from typing import Any

import numpy as np

from aerogel.serve.endpoint import Endpoint
from aerogel.serve.exchange import Exchange
from aerogel.serve.refusals import Invalid
from aerogel.serve.reply import Reply, json_reply
from aerogel.serve.routes._inputs import (
    BOOL,
    COUNT,
    DIRECTION,
    IDS,
    TEXT,
    TEXTS,
    as_list,
    characters,
    embed_inputs,
    optional,
)
from aerogel.serve.routes.rerank import rerank
from aerogel.system.json_fields import Either

__all__ = ["ROUTES"]

_COMMON: dict[str, Any] = {
    "model?": TEXT,
    "truncate?": BOOL,
    "truncation_direction?": DIRECTION,
    "prompt_name?": TEXT,
}
_INPUTS = Either(str, [Either(str, IDS)])
_EMBED = {"inputs": _INPUTS, "normalize?": BOOL, "dimensions?": COUNT, **_COMMON}
_EMBED_EACH = {"inputs": _INPUTS, **_COMMON}
_PREDICT = {
    "inputs": Either(str, [Either(str, [str])]),
    "model?": TEXT,
    "truncate?": BOOL,
    "raw_scores?": BOOL,
}
_SIMILARITY = {
    "inputs": {"source_sentence": str, "sentences": [str]},
    "model?": TEXT,
    "parameters?": optional({"truncate?": BOOL, "truncation_direction?": DIRECTION, "prompt_name?": TEXT}),
}
_TOKENIZE = {"inputs": TEXTS, "model?": TEXT, "add_special_tokens?": BOOL, "prompt_name?": TEXT}
_DECODE = {"ids": Either(IDS, [IDS]), "model?": TEXT, "skip_special_tokens?": BOOL}


async def _vectors(
    exchange: Exchange, method: str, body: dict[str, Any], inputs: list[Any], **options: Any
) -> Any:
    return await embed_inputs(
        exchange,
        exchange.model(body.get("model"), method),
        method,
        inputs,
        prompt=body.get("prompt_name"),
        direction=body.get("truncation_direction"),
        truncate=body.get("truncate"),
        **options,
    )


async def _embed(exchange: Exchange) -> Reply:
    body = await exchange.json(_EMBED)
    normalize = body.get("normalize")
    return json_reply(
        await _vectors(
            exchange,
            "embed",
            body,
            as_list(body["inputs"]),
            normalize=True if normalize is None else normalize,
            dimensions=body.get("dimensions"),
        )
    )


async def _embed_all(exchange: Exchange) -> Reply:
    body = await exchange.json(_EMBED_EACH)
    return json_reply(await _vectors(exchange, "embed_tokens", body, as_list(body["inputs"])))


async def _embed_sparse(exchange: Exchange) -> Reply:
    body = await exchange.json(_EMBED_EACH)
    found = await _vectors(exchange, "embed_sparse", body, as_list(body["inputs"]))
    return json_reply(
        [
            [
                {"index": index, "value": value}
                for index, value in zip(item.indices.tolist(), item.values.tolist(), strict=True)
            ]
            for item in found
        ]
    )


async def _predict(exchange: Exchange) -> Reply:
    body = await exchange.json(_PREDICT)
    inputs = body["inputs"]
    # A string, a pair of strings, or a list of lists of one or two strings.
    single = isinstance(inputs, str) or (len(inputs) > 0 and isinstance(inputs[0], str))
    texts = [inputs] if single else as_list(inputs)
    if any(isinstance(text, list) and not (1 <= len(text) <= 2 and all(isinstance(part, str) for part in text))
           for text in texts):  # fmt: skip
        raise Invalid("inputs must be a string, a pair of strings, or a list of lists of one or two strings")
    texts = [text[0] if isinstance(text, list) and len(text) == 1 else text for text in texts]
    found = await exchange.run(
        exchange.model(body.get("model"), "classify"),
        "classify",
        texts,
        characters=characters(texts),
        truncate=body.get("truncate"),
        raw_scores=bool(body.get("raw_scores")),
    )
    answers = [[{"score": item.score, "label": item.label} for item in labels] for labels in found]
    return json_reply(answers[0] if single else answers)


async def _similarity(exchange: Exchange) -> Reply:
    body = await exchange.json(_SIMILARITY)
    sentences = as_list(body["inputs"]["sentences"])
    options = {"model": body.get("model"), **(body.get("parameters") or {})}
    texts = [body["inputs"]["source_sentence"], *sentences]
    vectors: np.ndarray = await _vectors(exchange, "embed", options, texts, normalize=True)
    return json_reply((vectors[1:] @ vectors[0]).tolist())


async def _tokenize(exchange: Exchange) -> Reply:
    body = await exchange.json(_TOKENIZE)
    texts = as_list(body["inputs"])
    served = exchange.model(body.get("model"))
    special = body.get("add_special_tokens")
    prompt = body.get("prompt_name")
    whole = await served.prepare(
        characters(texts), lambda: served.model.tokens(texts, prompt=prompt, special=special is not False)
    )
    return json_reply(
        [
            [
                {
                    "id": token.id,
                    "text": token.text,
                    "special": token.special,
                    "start": None if token.special else token.start,
                    "stop": None if token.special else token.end,
                }
                for token in tokens
            ]
            for tokens in whole
        ]
    )


async def _decode(exchange: Exchange) -> Reply:
    body = await exchange.json(_DECODE)
    ids = as_list(body["ids"])
    model = exchange.model(body.get("model")).model
    lists = ids if isinstance(ids[0], list) else [ids]
    skip = body.get("skip_special_tokens") is not False
    return json_reply([model.decode(item, skip_special=skip) for item in lists])


async def _by_head(exchange: Exchange) -> Reply:
    """What the first model does: clients of text-embeddings-inference send requests to its address itself."""
    methods = exchange.model(None).model.methods
    if "rerank" in methods:
        return await rerank(exchange)
    return await (_predict if "classify" in methods else _embed)(exchange)


ROUTES = [
    Endpoint("POST", "/", _by_head, "Embed, classify or rank texts, as the first model does."),
    Endpoint("POST", "/embed", _embed, "Embed texts: one vector per text.", body=_EMBED, label="embed"),
    Endpoint("POST", "/embed_all", _embed_all, "Embed tokens: one vector per token.", body=_EMBED_EACH),
    Endpoint("POST", "/embed_sparse", _embed_sparse, "Embed texts as sparse vectors.", body=_EMBED_EACH),
    Endpoint("POST", "/predict", _predict, "Classify texts or pairs of texts.", body=_PREDICT),
    Endpoint("POST", "/similarity", _similarity, "Compare a sentence with others.", body=_SIMILARITY),
    Endpoint("POST", "/tokenize", _tokenize, "Split texts into tokens.", body=_TOKENIZE),
    Endpoint("POST", "/decode", _decode, "Turn token ids into text.", body=_DECODE),
]
