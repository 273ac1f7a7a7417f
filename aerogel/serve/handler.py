"""The ASGI application of a path: checks a request, lets the endpoint answer, and sends the answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from aerogel.errors import AerogelError, UsageError
from aerogel.serve.endpoint import Endpoint
from aerogel.serve.exchange import Exchange, Receive, Scope
from aerogel.serve.refusals import BackendFailed, Invalid, NotFound, Refusal
from aerogel.serve.reply import Reply, error_reply
from aerogel.serve.service import Service
from aerogel.system.printable import escaped, one_line

__all__ = ["Handler", "not_found", "send_reply"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Handler:
    """Answers the requests of one path.

    Args:
        service: the server's state.
        by_method: the endpoints by HTTP method.
    """

    def __init__(self, service: Service, by_method: Mapping[str, Endpoint]) -> None:
        self._service, self._by_method = service, by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; see ASGI."""
        exchange = Exchange(self._service, scope, receive)
        method = scope["method"]
        endpoint = self._by_method.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            refusal = Refusal(f"{method} is not possible here", status=405)
            refusal.headers["allow"] = ", ".join(self._by_method)
            await send_reply(self._service, exchange, error_reply(refusal, "tei"), send)
            return
        await _answer(self._service, endpoint, exchange, send)


def not_found(service: Service) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The application for paths without a route."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = NotFound("there is no such route; /openapi.json lists the routes")
        await send_reply(service, Exchange(service, scope, receive), error_reply(refusal, "tei"), send)

    return answer


async def _answer(service: Service, endpoint: Endpoint, exchange: Exchange, send: Send) -> None:
    label = endpoint.label or endpoint.path.strip("/") or "root"
    try:
        _check_keys(service, endpoint, exchange)
        reply = await endpoint.handle(exchange)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and getattr(task, "cancelling", lambda: 0)():
            raise
        # The client has left, and nobody reads an answer.
        service.metrics.refused(label, "dropped")
        return
    except Exception as error:
        refusal = _refusal(service, exchange, error)
        reply = error_reply(refusal, endpoint.style)
        if endpoint.area == "api":
            service.metrics.refused(label, refusal.reason)
        _log(service, endpoint, exchange, refusal.status, refusal)
    else:
        if endpoint.area == "api":
            _observe(service, label, exchange)
            reply = reply._replace(headers=(*reply.headers, *_times(exchange)))
        if service.settings.log_requests:
            _log(service, endpoint, exchange, reply.status, None)
    await send_reply(service, exchange, reply, send)


def _refusal(service: Service, exchange: Exchange, error: Exception) -> Refusal:
    """What a client learns about an error."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, UsageError):
        return Invalid(one_line(error))
    service.log.failure("request failed", error, path=escaped(exchange.scope["path"]))
    if isinstance(error, AerogelError):
        return BackendFailed("the model failed; the log of the server has the reason")
    return BackendFailed("the server failed; its log has the reason", status=500)


def _check_keys(service: Service, endpoint: Endpoint, exchange: Exchange) -> None:
    if endpoint.area == "api":
        service.keys.check(exchange.headers)
    elif endpoint.area == "admin":
        if not service.admin:
            raise NotFound("there is no such route; /openapi.json lists the routes")
        service.admin.check(exchange.headers)


def _observe(service: Service, label: str, exchange: Exchange) -> None:
    job = exchange.job
    if job is not None:
        queue, inference = exchange.times()
        service.metrics.ran(job.tokens, exchange.tokenization, queue, inference)
    service.metrics.answered(label, time.perf_counter() - exchange.began)


def _times(exchange: Exchange) -> tuple[tuple[bytes, bytes], ...]:
    """Headers of text-embeddings-inference; times are whole milliseconds."""
    job = exchange.job
    if job is None:
        return ()
    queue, inference = exchange.times()
    total = b"%d" % ((time.perf_counter() - exchange.began) * 1000)
    return (
        (b"x-compute-type", b"cpu"),
        (b"x-compute-time", total),
        (b"x-compute-characters", b"%d" % exchange.characters),
        (b"x-compute-tokens", b"%d" % job.tokens),
        (b"x-total-time", total),
        (b"x-tokenization-time", b"%d" % (exchange.tokenization * 1000)),
        (b"x-queue-time", b"%d" % (queue * 1000)),
        (b"x-inference-time", b"%d" % (inference * 1000)),
    )


def _log(
    service: Service, endpoint: Endpoint, exchange: Exchange, status: int, refusal: Refusal | None
) -> None:
    values: dict[str, Any] = {
        "id": _request_id(service, exchange).decode(),
        "method": endpoint.method,
        "path": escaped(exchange.scope["path"]),
        "status": status,
        "ms": round((time.perf_counter() - exchange.began) * 1000, 2),
    }
    if exchange.job is not None:
        values["tokens"] = exchange.job.tokens
    if refusal is not None:
        values["error"] = escaped(str(refusal)) if service.settings.log_texts else refusal.reason
    if service.settings.log_texts:
        values["body"] = exchange.received().decode("utf-8", "replace")
    service.log.event("request" if refusal is None else "request refused", **values)


def _request_id(service: Service, exchange: Exchange) -> bytes:
    """The client's id of the request if it is well-formed, else a new one; the same in the log and in the answer."""
    found: bytes | None = exchange.scope.get("aerogel.id")
    if found is None:
        given = next((value for name, value in exchange.headers if name == b"x-request-id"), b"")
        found = given if _REQUEST_ID.fullmatch(given) else service.new_id().encode()
        exchange.scope["aerogel.id"] = found
    return found


async def send_reply(service: Service, exchange: Exchange, reply: Reply, send: Send) -> None:
    """Send an answer with the headers that all answers have."""
    headers = [
        (b"content-type", reply.type),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", _request_id(service, exchange)),
        *reply.headers,
    ]
    # The rest of a body that is refused is not read.
    if service.draining or reply.status in (408, 413, 431):
        headers.append((b"connection", b"close"))
    connection = exchange.scope.get("aerogel")
    if connection is not None and reply.body and exchange.scope["method"] != "HEAD":
        connection.hold_head()
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
