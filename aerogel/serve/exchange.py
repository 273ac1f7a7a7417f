"""A request and what routes do with it: read the body, choose the model, run texts."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from aerogel.model.batch import Call
from aerogel.serve.refusals import Invalid, TooLarge
from aerogel.serve.rows import Job
from aerogel.serve.served import Served
from aerogel.system.json_fields import MalformedJsonError, check

if TYPE_CHECKING:
    from aerogel.serve.service import Service

__all__ = ["Exchange"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_TIMEOUT_HEADER = b"x-timeout"


class Exchange:
    """One request.

    Attributes:
        service: the server's state.
        scope: ASGI scope of the request.
        headers: header lines with lower-case names.
        characters: characters of the texts of the request.
        job: what the scheduler runs for the request; None before that.
        tokenization: seconds that tokenizing took.
    """

    __slots__ = ("_body", "_query", "_receive", "began", "characters", "headers", "job", "scope", "service",
                 "tokenization")  # fmt: skip

    def __init__(self, service: Service, scope: Scope, receive: Receive) -> None:
        self.service, self.scope, self._receive = service, scope, receive
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.began = time.perf_counter()
        self.characters = 0
        self.tokenization = 0.0
        self.job: Job | None = None
        self._body: bytes | None = None
        self._query: dict[str, list[str]] | None = None

    @property
    def parts(self) -> dict[str, str]:
        """The parts of the path that vary, by name."""
        found: dict[str, str] = self.scope["path_params"]
        return found

    def header(self, name: bytes) -> str | None:
        """Value of a header."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)

    def query(self, name: str) -> str | None:
        """Value of a parameter of the URL."""
        if self._query is None:
            try:
                self._query = parse_qs(self.scope["query_string"].decode("latin-1"), max_num_fields=50)
            except ValueError as error:
                raise Invalid("the URL has more than 50 parameters; send fewer") from error
        return next(iter(self._query.get(name, [])), None)

    async def body(self) -> bytes:
        """The body.

        Raises:
            TooLarge: it is longer than the server's limit.
            Invalid: it is compressed.
            asyncio.CancelledError: the client has left.
        """
        if self._body is not None:
            return self._body
        limit = self.service.max_body
        if (encoding := self.header(b"content-encoding")) not in (None, "identity"):
            raise Invalid(
                f"Content-Encoding {encoding!r} is not supported; send the body as it is", status=415
            )
        length = self.header(b"content-length")
        if length is not None and length.isdecimal() and int(length[:20]) > limit:
            raise TooLarge(f"the body has {length[:20]} bytes, more than {limit}; send less at once")
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"the body has more than {limit} bytes; send less at once")
            chunks.append(chunk)
            if not message.get("more_body"):
                break
        self._body = b"".join(chunks)
        return self._body

    async def json(self, schema: Any) -> Any:
        """The body as JSON; see `aerogel.system.json_fields` for schemas.

        Raises:
            Invalid: it is not JSON, or breaks the schema.
        """
        try:
            document = orjson.loads(await self.body())
        except orjson.JSONDecodeError as error:
            raise Invalid(f"the body is not JSON: {error}", status=400) from error
        try:
            return check(document, schema)
        except MalformedJsonError as error:
            raise Invalid(str(error)) from error

    def model(self, name: str | None, method: str | None = None) -> Served:
        """The model for the request; see `Pool.get`. The URL may name it too, as ``?model=NAME``."""
        if name is None and self.scope["query_string"]:
            name = self.query("model")
        return self.service.pool.get(name, method)

    async def run(
        self,
        served: Served,
        method: str,
        *args: Any,
        characters: int,
        truncate: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run a method of a model on the texts of the request.

        Args:
            served: the model.
            method: name of the method.
            args: its arguments.
            characters: characters of all texts.
            truncate: whether texts beyond the model's limit are truncated; None for the server's default.
            options: its options.

        Returns:
            What the method returns.

        Raises:
            Refusal: the texts cannot be run.
            UsageError: an argument is out of range.
        """
        began = time.perf_counter()
        self.characters = characters
        call = await served.call(characters, method, *args, **options)
        self.tokenization = time.perf_counter() - began
        return await self.finish(served, call, truncate=truncate)

    async def finish(self, served: Served, call: Call, *, truncate: bool | None = None) -> Any:
        """Run a prepared call and return its result; see `run`."""
        service = self.service
        if not (service.settings.auto_truncate if truncate is None else truncate):
            for index, item in enumerate(call.encoded):
                if item.truncated:
                    raise TooLarge(
                        f"text {index} has more than {served.model.max_length} tokens, the limit of the model; "
                        "shorten it or set truncate"
                    )
        limit = service.settings.max_request_tokens
        if limit is not None and (tokens := sum(map(len, call.encoded))) > limit:
            raise TooLarge(f"the request has {tokens} tokens, more than {limit}; send fewer texts at once")
        job = self.job = served.scheduler.submit(call, self._timeout())
        connection = self.scope.get("aerogel")
        if connection is None:
            return await job.future
        connection.waiting.add(job.future)
        try:
            return await job.future
        finally:
            connection.waiting.discard(job.future)

    def age(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self.began

    def times(self) -> tuple[float, float]:
        """Seconds that the texts of the request were queued and ran."""
        job = self.job
        if job is None or job.started is None:
            return 0.0, 0.0
        return max(0.0, job.started - job.enqueued), max(0.0, job.ended - job.started)

    def _timeout(self) -> float:
        """Seconds that the request may take."""
        given = next((value for name, value in self.headers if name == _TIMEOUT_HEADER), None)
        text = given.decode("latin-1") if given is not None else None
        if text is None and self.scope["query_string"]:
            text = self.query("timeout")
        if text is None:
            return self.service.settings.timeout
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise Invalid(f"the timeout is {text[:40]!r}, not a number of seconds above 0")
        return min(seconds, self.service.settings.timeout)

    def received(self) -> bytes:
        """The body as far as it was read."""
        return self._body or b""
