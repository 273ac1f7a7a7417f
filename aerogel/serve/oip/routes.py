"""Routes of the protocol for Starlette; a server mounts them beside its own."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import aerogel
from aerogel.serve.oip.body import read_body
from aerogel.serve.oip.datatypes import BYTES, DTYPES, InferenceError, Tensor, datatype_of
from aerogel.serve.oip.request import parse_request
from aerogel.serve.oip.response import encode_response, model_metadata, server_metadata
from aerogel.system.printable import one_line

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["ServedModel", "from_session", "routes"]

Run = Callable[[Mapping[str, np.ndarray], Sequence[str]], Awaitable[Mapping[str, np.ndarray]]]
"""Called with inputs by name and the names of the outputs; returns the outputs by name."""

_HEADER = "Inference-Header-Content-Length"
# Bytes of a body from which it is parsed in a thread.
_LARGE = 1 << 16


@dataclass(frozen=True)
class ServedModel:
    """A model that the routes serve.

    Attributes:
        name: its name in paths.
        inputs: its inputs.
        outputs: its outputs.
        run: runs arrays that fit `inputs`. It may raise InferenceError.
        version: its version in paths.
        max_length: largest size of the second dimension of an input; None for no limit.
    """

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    run: Run
    version: str = "1"
    max_length: int | None = None


def from_session(name: str, session: Any, *, max_length: int | None = None) -> ServedModel:
    """A model that runs a session of ONNX Runtime in worker threads.

    Raises:
        UsageError: an input or output has a type that the protocol does not have.
    """

    def run(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        feed = {key: _decoded(key, array) for key, array in inputs.items()}
        try:
            found = session.run(list(outputs), feed)
        except Exception as error:  # the exception types of onnxruntime are not public
            reason = str(error).strip().partition("\n")[0]
            raise InferenceError(f"{name}: the model cannot run these inputs ({reason})") from error
        return dict(zip(outputs, found, strict=True))

    async def run_in_thread(
        inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Mapping[str, np.ndarray]:
        return await asyncio.to_thread(run, inputs, outputs)

    return ServedModel(
        name,
        _tensors(session.get_inputs()),
        _tensors(session.get_outputs()),
        run_in_thread,
        max_length=max_length,
    )


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
        name = request.path_params["model"]
        model = find(name)
        if model is None:
            raise InferenceError(f"unknown model {name[:80]!r}", 404)
        version = request.path_params.get("version", model.version)
        if version != model.version:
            raise InferenceError(f"model {name} has no version {version[:80]!r}; it has {model.version}", 404)
        return model

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
        _check_length(model, asked.inputs)
        names = _output_names(model, asked.outputs)
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


def _check_length(model: ServedModel, inputs: Mapping[str, np.ndarray]) -> None:
    """Refuse long sequences: the memory of attention grows with the square of the length."""
    for name, array in inputs.items():
        if model.max_length is not None and array.ndim > 1 and array.shape[1] > model.max_length:
            raise InferenceError(
                f"input {name}: {array.shape[1]} tokens; the model takes at most {model.max_length}", 413
            )


def _output_names(model: ServedModel, asked: Mapping[str, bool] | None) -> list[str]:
    known = [tensor.name for tensor in model.outputs]
    names = known if asked is None else list(asked)
    if unknown := next((name for name in names if name not in known), None):
        raise InferenceError(f"the model has no output {unknown[:80]!r}; it has {', '.join(known)}")
    return names


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    return [
        Tensor(
            value.name,
            datatype_of(value.type),
            tuple(size if type(size) is int and size >= 0 else -1 for size in value.shape or ()),
        )
        for value in values
    ]


def _decoded(name: str, array: np.ndarray) -> np.ndarray:
    """ONNX Runtime takes strings as text."""
    if array.dtype != DTYPES[BYTES]:
        return array
    found = np.empty(array.shape, object)
    try:
        found.ravel()[:] = [item.decode() for item in array.ravel()]
    except UnicodeDecodeError as error:
        raise InferenceError(f"input {name}: text must be UTF-8") from error
    return found
