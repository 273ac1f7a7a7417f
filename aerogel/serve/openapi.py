"""The OpenAPI document, made from the endpoints and the schemas that check their bodies."""

from __future__ import annotations

import math
import re
from typing import Any

from aerogel import __version__
from aerogel.serve.endpoint import Endpoint, endpoints
from aerogel.system.json_fields import Each, Either, Number, OneOf

__all__ = ["document", "json_schema"]

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
_STATUSES = {
    "400": "The body is not JSON, or a list is empty.",
    "401": "The API key is missing or unknown.",
    "404": "There is no such model.",
    "413": "The body or a text is too long.",
    "415": "The body is compressed.",
    "422": "A field is missing or has another type or value.",
    "424": "The model failed.",
    "429": "The work cannot be done in time; Retry-After says when to try again.",
    "500": "The server failed.",
    "503": "A model is being loaded, or the server stops.",
}


def document() -> dict[str, Any]:
    """The OpenAPI document of all routes, without the admin routes."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints():
        if endpoint.area != "admin":
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "aerogel serve", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def json_schema(schema: Any) -> dict[str, Any]:
    """The JSON Schema of a schema of `aerogel.system.json_fields`."""
    if schema is None:
        return {"type": "null"}
    if isinstance(schema, Either):
        return {"anyOf": [json_schema(option) for option in schema.schemas]}
    if isinstance(schema, OneOf):
        return {"type": "string", "enum": list(schema.texts)}
    if isinstance(schema, Number):
        limits = {"minimum": schema.low, "maximum": schema.high}
        return {"type": _TYPES[schema.type]} | {
            name: schema.type(value) for name, value in limits.items() if not math.isinf(value)
        }
    if isinstance(schema, list):
        return {"type": "array", "items": json_schema(schema[0])}
    if isinstance(schema, Each):
        return {"type": "object", "additionalProperties": json_schema(schema.values)}
    if isinstance(schema, dict):
        return {
            "type": "object",
            "properties": {name.removesuffix("?"): json_schema(value) for name, value in schema.items()},
            "required": [name for name in schema if not name.endswith("?")],
        }
    return {} if schema is Any else {"type": _TYPES[schema]}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": re.sub(r"\W+", "_", f"{endpoint.method.lower()}{endpoint.path}").strip("_"),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", endpoint.path)
        ],
        "responses": {"200": {"description": "The answer."}}
        | {status: {"description": meaning} for status, meaning in _STATUSES.items()},
    }
    if endpoint.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": json_schema(endpoint.body)}},
        }
        found["parameters"] += [
            {"name": "x-timeout", "in": "header", "required": False, "schema": {"type": "number"},
             "description": "Seconds that the request may take."},
        ]  # fmt: skip
    return found
