"""Routes of the protocol for Starlette; a server mounts them beside its own."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import aerogel
from aerogel.serve.oip.body import read_body
from aerogel.serve.oip.datatypes import InferenceError
from aerogel.serve.oip.model import ServedModel, check_length, find_version, output_names
from aerogel.serve.oip.request import parse_request
from aerogel.serve.oip.response import encode_response, model_metadata, server_metadata
from aerogel.system.printable import one_line

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["routes"]

_HEADER = "Inference-Header-Content-Length"
# Bytes of a body from which it is parsed in a thread.
_LARGE = 1 << 16


def routes(
    find: Callable[[str], ServedModel | None],
    ready: Callable[[], bool] = lambda: True,
    *,
    max_bytes: int = 16 << 20,
) -> list[Route]:
    """The routes.

    Args:
        find: the model of a name; None if there is no such model, or it is not ready.
        ready: whether all models are ready.
        max_bytes: largest body of a request, unpacked. Lists in JSON take up to about 20 times as much memory.
    """

    def model_of(request: Request) -> ServedModel:
        return find_version(find, request.path_params["model"], request.path_params.get("version"))

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def is_ready(_: Request) -> Response:
        state = ready()
        return JSONResponse({"ready": state}, 200 if state else 503)

    async def server(_: Request) -> Response:
        return JSONResponse(server_metadata(aerogel.__version__))

    async def metadata(request: Request) -> Response:
        model = model_of(request)
        return JSONResponse(model_metadata(model.name, [model.version], model.inputs, model.outputs))

    async def model_ready(request: Request) -> Response:
        return JSONResponse({"name": model_of(request).name, "ready": True})

    async def infer(request: Request) -> Response:
        model = model_of(request)
        body = await read_body(request, max_bytes)
        # Parsing a large body takes long enough to delay other requests.
        parse = functools.partial(parse_request, body, request.headers.get(_HEADER), model.inputs)
        asked = await asyncio.to_thread(parse) if len(body) > _LARGE else parse()
        check_length(model, asked.inputs)
        names = output_names(model, asked.outputs)
        arrays = await model.run(asked.inputs, names)
        content, length = encode_response(
            model.name, model.version, asked, {name: arrays[name] for name in names}
        )
        if length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={_HEADER: str(length)})

    prefixes = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    return [
        Route("/v2", _answering(server)),
        Route("/v2/health/live", _answering(live)),
        Route("/v2/health/ready", _answering(is_ready)),
        *(Route(prefix, _answering(metadata)) for prefix in prefixes),
        *(Route(f"{prefix}/ready", _answering(model_ready)) for prefix in prefixes),
        *(Route(f"{prefix}/infer", _answering(infer), methods=["POST"]) for prefix in prefixes),
    ]


def _answering(
    function: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """A function that answers InferenceErrors with the error body of the protocol."""

    async def answer(request: Request) -> Response:
        try:
            return await function(request)
        except InferenceError as error:
            return JSONResponse({"error": one_line(error)}, error.status)

    return answer
