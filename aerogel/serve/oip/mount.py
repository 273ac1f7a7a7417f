"""The routes of the protocol in `aerogel serve`: with its keys, its queue, its metrics and its log."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
from starlette.routing import Route

from aerogel.errors import UsageError
from aerogel.model.derive import Port
from aerogel.serve.exchange import Exchange, Receive, Scope
from aerogel.serve.handler import send_reply
from aerogel.serve.oip.datatypes import InferenceError, Tensor, datatype_of
from aerogel.serve.oip.model import ServedModel
from aerogel.serve.oip.routes import routes
from aerogel.serve.refusals import Refusal
from aerogel.serve.reply import error_reply
from aerogel.serve.served import Served
from aerogel.serve.service import Service

__all__ = ["service_routes"]

_LABEL = "infer"


def service_routes(service: Service) -> list[Route]:
    """The routes of the protocol for the models of a server."""
    models: dict[Served, ServedModel] = {}

    def find(name: str) -> ServedModel | None:
        try:
            served = service.pool.get(name)
        except Refusal as refusal:
            raise InferenceError(str(refusal), refusal.status) from refusal
        if served not in models:
            # Models that were replaced are forgotten.
            for old in models.keys() - set(service.pool.all()):
                del models[old]
            models[served] = _model(served)
        return models[served]

    def ready() -> bool:
        return service.pool.ready

    found = routes(find, ready, max_bytes=service.max_body)
    return [Route(route.path, _Guarded(service, route), methods=None) for route in found]


class _Guarded:
    """A route that asks for a key and counts answers, except those about health."""

    def __init__(self, service: Service, route: Route) -> None:
        self._service, self._route = service, route
        self._open = route.path.startswith("/v2/health")

    async def __call__(self, scope: Scope, receive: Receive, send: Callable[..., Any]) -> None:
        """Answer a request; see ASGI."""
        service = self._service
        exchange = Exchange(service, scope, receive)
        try:
            if scope["method"] not in (self._route.methods or ()):
                raise Refusal(f"{scope['method']} is not possible here", status=405)
            if not self._open:
                service.keys.check(exchange.headers)
        except Refusal as refusal:
            await send_reply(service, exchange, error_reply(refusal, "error"), send)
            return

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and self._route.path.endswith("/infer"):
                if message["status"] < 400:
                    service.metrics.answered(_LABEL, exchange.age())
                else:
                    service.metrics.refused(_LABEL, "validation")
            await send(message)

        await self._route.app(scope, receive, counted)


def _model(served: Served) -> ServedModel:
    inputs, outputs = (_tensors(ports) for ports in served.model.ports())
    run = functools.partial(_run, served)
    return ServedModel(served.name, inputs, outputs, run, max_length=served.model.max_length)


async def _run(
    served: Served, feed: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> Mapping[str, np.ndarray]:
    try:
        return await served.run_arrays(feed, outputs)
    except Refusal as refusal:
        raise InferenceError(str(refusal), refusal.status) from refusal
    except UsageError as error:
        raise InferenceError(f"{served.name}: {error}") from error


def _tensors(ports: Sequence[Port]) -> list[Tensor]:
    return [
        Tensor(
            port.name,
            datatype_of(port.type),
            tuple(-1 if size is None else size for size in port.shape or ()),
        )
        for port in ports
    ]
