"""Answers to requests, and bodies of errors in the forms that the clients of other servers expect."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from aerogel.serve.refusals import Refusal

__all__ = ["JSON", "Reply", "error_reply", "json_reply"]

JSON = b"application/json"
Headers = list[tuple[bytes, bytes]]


class Reply(NamedTuple):
    """An answer."""

    body: bytes
    status: int = 200
    type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def json_reply(value: Any, status: int = 200) -> Reply:
    """An answer in JSON; arrays of NumPy are lists of numbers."""
    return Reply(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status)


def error_reply(refusal: Refusal, style: str) -> Reply:
    """The answer to a request that is refused.

    Args:
        refusal: why.
        style: "tei" for text-embeddings-inference, "openai" for OpenAI's own form, "message" for Cohere's, "error" for
            the Open Inference Protocol's.
    """
    message = str(refusal)
    if style == "openai":
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
            refusal.status, "invalid_request_error"
        )
        if refusal.status >= 500 or refusal.status == 424:
            kind = "server_error"
        code = "model_not_found" if refusal.status == 404 else None
        body: Any = {
            "error": {"message": message, "type": kind, "param": None, "code": code},
            "message": message, "code": refusal.status, "type": refusal.kind,
        }  # fmt: skip
    elif style == "message":
        body = {"message": message}
    elif style == "error":
        body = {"error": message}
    else:
        body = {"error": message, "error_type": refusal.kind}
    headers = tuple((name.encode(), value.encode()) for name, value in refusal.headers.items())
    return Reply(orjson.dumps(body), refusal.status, JSON, headers)
