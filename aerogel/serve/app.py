"""The ASGI application: the routes of all families, for one or two ports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router

from aerogel.serve.endpoint import AREAS, Endpoint, endpoints
from aerogel.serve.handler import Handler, not_found
from aerogel.serve.oip.mount import service_routes
from aerogel.serve.service import Service

__all__ = ["application"]

App = Callable[[Any, Any, Any], Awaitable[None]]


def application(service: Service, areas: Collection[str] = AREAS) -> App:
    """The application with the routes of some areas.

    Args:
        service: the server's state.
        areas: areas of `Endpoint` to include; health is always included.
    """
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints():
        if endpoint.area in areas or (endpoint.area == "ops" and endpoint.path != "/metrics"):
            by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    # Requests try the routes in this order: those of texts come first, and exact paths before patterns.
    order = sorted(
        by_path, key=lambda path: ("{" in path, "POST" not in by_path[path], path not in _FREQUENT)
    )
    routes = [Route(path, Handler(service, by_path[path]), methods=None) for path in order]
    if "api" in areas:
        routes += service_routes(service)
    app: App = Router(routes, default=not_found(service), redirect_slashes=False)
    if service.settings.cors:
        app = CORSMiddleware(
            app,
            allow_origins=service.settings.cors,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id", "x-timeout"],
        )
    return app


_FREQUENT = ("/v1/embeddings", "/embed", "/rerank", "/predict")
