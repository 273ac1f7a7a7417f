"""Routes for monitoring: health, metrics, and what is served."""

from __future__ import annotations

from aerogel import __version__
from aerogel.serve.endpoint import Endpoint
from aerogel.serve.exchange import Exchange
from aerogel.serve.refusals import Unavailable
from aerogel.serve.reply import Reply, json_reply

__all__ = ["ROUTES"]

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


async def _live(_: Exchange) -> Reply:
    return json_reply({"live": True})


async def _ready(exchange: Exchange) -> Reply:
    pool = exchange.service.pool
    if pool.ready:
        return json_reply({"ready": True})
    if exchange.service.draining:
        raise Unavailable("the server stops")
    if pool.failed:
        raise Unavailable(f"not loaded, for reasons in the log: {', '.join(pool.failed)}")
    raise Unavailable("a model is being loaded")


async def _metrics(exchange: Exchange) -> Reply:
    service = exchange.service
    service.metrics.lost(service.log.lost)
    service.metrics.models([served.labels() for served in service.pool.all()])
    return Reply(service.metrics.text(), type=_TEXT)


async def _info(exchange: Exchange) -> Reply:
    settings = exchange.service.settings
    served = exchange.model(None)
    model = served.model
    kinds = {"classify": "classifier", "rerank": "reranker"}
    kind = kinds.get(model.head.kind, "embedding")
    details = (
        {"id2label": dict(enumerate(model.head.labels or ()))} if kind != "embedding" else {"pooling": "mean"}
    )
    return json_reply(
        {
            "model_id": served.name,
            "model_sha": None,
            "model_dtype": "float32",
            "model_type": {kind: details},
            "max_concurrent_requests": settings.max_connections,
            "max_input_length": model.max_length,
            "max_batch_tokens": served.layout.batch_tokens,
            "max_batch_requests": model.max_rows,
            "max_client_batch_size": 2**31 - 1,
            "auto_truncate": settings.auto_truncate,
            "tokenization_workers": 2,
            "version": __version__,
            "sha": None,
            "docker_label": None,
            "methods": list(model.methods),
            "density": model.density,
            "fused": model.fused,
            "workers": served.layout.workers,
            "threads": served.layout.threads,
        }
    )


ROUTES = [
    Endpoint("GET", "/livez", _live, "Whether the process runs.", area="ops"),
    Endpoint("GET", "/readyz", _ready, "Whether all models are loaded.", area="ops"),
    Endpoint("GET", "/health", _ready, "The same as /readyz.", area="ops"),
    Endpoint("GET", "/ping", _ready, "The same as /readyz.", area="ops"),
    Endpoint("GET", "/metrics", _metrics, "Metrics in Prometheus's format.", area="ops"),
    Endpoint("GET", "/info", _info, "Model and limits, as text-embeddings-inference tells them."),
]
