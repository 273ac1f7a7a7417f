"""Routes of OpenAI: embeddings and the list of models."""

from __future__ import annotations

import base64

from aerogel.serve.endpoint import Endpoint
from aerogel.serve.exchange import Exchange
from aerogel.serve.reply import Reply, json_reply
from aerogel.serve.routes._inputs import COUNT, IDS, TEXT, as_list, embed_inputs, optional
from aerogel.serve.served import Served
from aerogel.system.json_fields import Either, OneOf

__all__ = ["ROUTES"]

_EMBEDDINGS = {
    "input": Either(str, IDS, [Either(str, IDS)]),
    "model?": TEXT,
    "encoding_format?": optional(OneOf("float", "base64")),
    "dimensions?": COUNT,
    "user?": TEXT,
    "prompt_name?": TEXT,
}


async def _embeddings(exchange: Exchange) -> Reply:
    body = await exchange.json(_EMBEDDINGS)
    inputs = as_list(body["input"])
    if isinstance(inputs[0], int):
        inputs = [inputs]
    served = exchange.model(body.get("model"), "embed")
    vectors = await embed_inputs(
        exchange, served, "embed", inputs, prompt=body.get("prompt_name"), dimensions=body.get("dimensions")
    )
    coded = list(vectors)
    if body.get("encoding_format") == "base64":
        # The clients read little-endian float32.
        coded = [base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode() for vector in vectors]
    tokens = exchange.job.tokens if exchange.job else 0
    return json_reply(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(coded)
            ],
            "model": served.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


async def _models(exchange: Exchange) -> Reply:
    return json_reply(
        {"object": "list", "data": [_describe(served) for served in exchange.service.pool.all()]}
    )


async def _model(exchange: Exchange) -> Reply:
    return json_reply(_describe(exchange.model(exchange.parts["name"])))


def _describe(served: Served) -> dict[str, object]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "aerogel",
        "methods": list(served.model.methods),
        "max_length": served.model.max_length,
    }


ROUTES = [
    Endpoint(
        "POST", "/v1/embeddings", _embeddings, "Embed texts or lists of token ids.", style="openai",
        body=_EMBEDDINGS, label="embed",
    ),
    Endpoint("POST", "/embeddings", _embeddings, "The same as /v1/embeddings.", style="openai", body=_EMBEDDINGS,
             label="embed"),
    Endpoint("GET", "/v1/models", _models, "List the models.", style="openai"),
    Endpoint("GET", "/v1/models/{name}", _model, "Describe a model.", style="openai"),
]  # fmt: skip
