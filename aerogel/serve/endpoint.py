"""Endpoints: a module of `aerogel.serve.routes` defines a list of them as ``ROUTES``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aerogel.registry import Registry

if TYPE_CHECKING:
    from aerogel.serve.exchange import Exchange
    from aerogel.serve.reply import Reply

__all__ = ["AREAS", "FAMILIES", "Endpoint", "endpoints"]

AREAS = ("api", "ops", "docs", "admin")
"""Who an endpoint is for: clients, monitoring, people, and holders of the admin token."""


@dataclass(frozen=True)
class Endpoint:
    """A route.

    Attributes:
        method: HTTP method.
        path: path, with ``{names}`` for parts that vary.
        handle: answers a request.
        summary: what it does, for the OpenAPI document.
        area: one of `AREAS`. Requests need an API key in "api" only, and the admin token in "admin" only.
        style: form of error bodies; see `aerogel.serve.reply.error_reply`.
        body: schema of the request body in JSON Schema; None for no body.
        reply: schema of the answer.
        label: name of the method in metrics.
    """

    method: str
    path: str
    handle: Callable[[Exchange], Awaitable[Reply]]
    summary: str
    area: str = "api"
    style: str = "tei"
    body: Mapping[str, Any] | None = None
    reply: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    label: str = ""


FAMILIES: Registry[list[Endpoint]] = Registry("family of routes", "aerogel.serve.routes", "ROUTES")


def endpoints() -> list[Endpoint]:
    """The endpoints of all families."""
    return [endpoint for name in FAMILIES.names() for endpoint in FAMILIES.get(name)]
