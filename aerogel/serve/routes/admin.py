"""Routes that load and unload models; they need the admin token, and do not exist without one."""

from __future__ import annotations

from aerogel.serve.endpoint import Endpoint
from aerogel.serve.exchange import Exchange
from aerogel.serve.refusals import Invalid
from aerogel.serve.reply import Reply, json_reply

__all__ = ["ROUTES"]


async def _load(exchange: Exchange) -> Reply:
    _check_single(exchange)
    served = await exchange.service.pool.load(exchange.parts["name"])
    return json_reply({"model": served.name, "methods": list(served.model.methods)})


async def _unload(exchange: Exchange) -> Reply:
    _check_single(exchange)
    await exchange.service.pool.unload(exchange.parts["name"])
    return json_reply({"model": exchange.parts["name"]})


def _check_single(exchange: Exchange) -> None:
    if exchange.service.settings.workers > 1:
        raise Invalid(
            "with several processes, send SIGHUP to the server to load all models again", status=409
        )


ROUTES = [
    Endpoint("POST", "/admin/models/{name}/load", _load, "Load a model, or load it again.", area="admin"),
    Endpoint("POST", "/admin/models/{name}/unload", _unload, "Unload a model.", area="admin"),
]
