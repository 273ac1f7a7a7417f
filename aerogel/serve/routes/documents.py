"""Routes for people: the OpenAPI document and the page to try the models."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from aerogel.serve.endpoint import Endpoint
from aerogel.serve.exchange import Exchange
from aerogel.serve.openapi import document
from aerogel.serve.reply import Reply, json_reply

__all__ = ["ROUTES"]

# The page loads nothing from elsewhere, and its own script is part of it.
_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def _openapi(_: Exchange) -> Reply:
    return json_reply(document())


async def _page(_: Exchange) -> Reply:
    headers = ((b"content-security-policy", _POLICY), (b"x-content-type-options", b"nosniff"))
    return Reply(_html(), type=b"text/html; charset=utf-8", headers=headers)


@lru_cache(1)
def _html() -> bytes:
    return resources.files("aerogel.serve").joinpath("page.html").read_bytes()


ROUTES = [
    Endpoint("GET", "/openapi.json", _openapi, "This document.", area="docs"),
    Endpoint("GET", "/", _page, "A page to try the models.", area="docs"),
]
