"""Refusals of a request: each has a status and becomes a body of one line.

The types are those of text-embeddings-inference: Validation, Tokenizer, Empty, Overloaded, Backend and Unhealthy.
"""

from __future__ import annotations

import math

__all__ = [
    "BackendFailed",
    "Empty",
    "Expired",
    "Invalid",
    "NotFound",
    "Overloaded",
    "Refusal",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
]


class Refusal(Exception):  # noqa: N818 - its subclasses are named after what the client sees
    """A request that is not answered.

    Attributes:
        status: HTTP status.
        kind: type of the error in text-embeddings-inference.
        reason: label of the failure in metrics.
        headers: headers of the response.
    """

    status = 422
    kind = "Validation"
    reason = "validation"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status or self.status
        self.headers: dict[str, str] = {}


class Invalid(Refusal):
    """The body, a parameter or a header cannot be used."""


class Empty(Refusal):
    """A list without items."""

    status, kind, reason = 400, "Empty", "validation"


class TooLarge(Refusal):
    """A body or text is longer than a limit."""

    status, kind, reason = 413, "Validation", "batch_size"


class NotFound(Refusal):
    """There is no such route or model."""

    status = 404


class Unauthorized(Refusal):
    """The request has no key, or an unknown one."""

    status = 401

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers["www-authenticate"] = "Bearer"


class Overloaded(Refusal):
    """The work cannot be done in time.

    Args:
        message: what is full.
        wait: seconds after which the request would probably be accepted.
    """

    status, kind, reason = 429, "Overloaded", "overloaded"

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.headers["retry-after"] = str(min(3600, max(1, math.ceil(wait))))


class Expired(Overloaded):
    """The deadline passed while the request was queued."""

    reason = "dropped"


class BackendFailed(Refusal):
    """The model failed on a valid input."""

    status, kind, reason = 424, "Backend", "inference"


class Unavailable(Refusal):
    """The model is loading, or the server stops."""

    status, kind, reason = 503, "Unhealthy", "unhealthy"
