"""The gRPC service of the protocol; a server adds its handler to a server of grpc.aio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

import aerogel
from aerogel.errors import require
from aerogel.serve.oip.arrays import check_shape, from_binary, from_json, to_binary
from aerogel.serve.oip.datatypes import BYTES, DTYPES, InferenceError, Tensor
from aerogel.serve.oip.messages import CONTENTS, PACKAGE, message
from aerogel.serve.oip.model import ServedModel, check_length, find_version, output_names
from aerogel.serve.oip.request import REQUEST_UNSUPPORTED, UNSUPPORTED, check_tensor, refuse
from aerogel.serve.oip.response import model_metadata, server_metadata
from aerogel.system.printable import one_line

__all__ = ["service"]

_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
# gRPC status for each HTTP status of an InferenceError; INVALID_ARGUMENT for others.
_STATUSES = {404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED"}


def service(find: Callable[[str], ServedModel | None], ready: Callable[[], bool] = lambda: True) -> Any:
    """A ``grpc.GenericRpcHandler``. The server's ``grpc.max_receive_message_length`` limits requests.

    Args:
        find: the model of a name; None if there is no such model, or it is not ready.
        ready: whether all models are ready.

    Raises:
        MissingExtraError: grpcio or protobuf is not installed.
    """
    grpc = require("grpc", "grpc")

    async def live(_: Any) -> dict[str, Any]:
        return {"live": True}

    async def is_ready(_: Any) -> dict[str, Any]:
        return {"ready": ready()}

    async def model_ready(request: Any) -> dict[str, Any]:
        find_version(find, request.name, request.version)
        return {"ready": True}

    async def server(_: Any) -> dict[str, Any]:
        return server_metadata(aerogel.__version__)

    async def metadata(request: Any) -> dict[str, Any]:
        model = find_version(find, request.name, request.version)
        return model_metadata(model.name, [model.version], model.inputs, model.outputs)

    async def infer(request: Any) -> dict[str, Any]:
        model = find_version(find, request.model_name, request.model_version)
        inputs = _inputs(request, model.inputs)
        check_length(model, inputs)
        names = output_names(model, _requested(request))
        arrays = await model.run(inputs, names)
        return {
            "model_name": model.name,
            "model_version": model.version,
            "id": request.id,
            "outputs": [
                {"name": name, "datatype": _DATATYPES[arrays[name].dtype], "shape": arrays[name].shape}
                for name in names
            ],
            "raw_output_contents": [to_binary(arrays[name]) for name in names],
        }

    def handler(name: str, function: Callable[[Any], Awaitable[dict[str, Any]]]) -> Any:
        answer = message(f"{name}Response")

        async def call(request: Any, context: Any) -> Any:
            try:
                return answer(**await function(request))
            except InferenceError as error:
                status = getattr(grpc.StatusCode, _STATUSES.get(error.status, "INVALID_ARGUMENT"))
                await context.abort(status, one_line(error))

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=message(f"{name}Request").FromString,
            response_serializer=answer.SerializeToString,
        )

    methods = {
        "ServerLive": live, "ServerReady": is_ready, "ModelReady": model_ready, "ServerMetadata": server,
        "ModelMetadata": metadata, "ModelInfer": infer,
    }  # fmt: skip
    return grpc.method_handlers_generic_handler(
        f"{PACKAGE}.GRPCInferenceService",
        {name: handler(name, function) for name, function in methods.items()},
    )


def _inputs(request: Any, tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """The arrays of a request, from the raw contents of all inputs or from the typed contents of each."""
    refuse(_parameters(request.parameters), REQUEST_UNSUPPORTED, "the request")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InferenceError(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    known = {tensor.name: tensor for tensor in tensors}
    found: dict[str, np.ndarray] = {}
    for index, item in enumerate(request.inputs):
        name, shape = item.name, list(item.shape)
        if name in found:
            raise InferenceError(f"input {name:.80} is given twice")
        if name not in known:
            raise InferenceError(f"the model has no input {name[:80]!r}; it has {', '.join(known)}")
        check_tensor(known[name], {"datatype": item.datatype, "shape": shape})
        refuse(_parameters(item.parameters), UNSUPPORTED, f"input {name}")
        if not raw:
            found[name] = _typed(name, item.datatype, shape, item.contents)
        elif item.HasField("contents"):
            raise InferenceError(f"input {name}: has both contents and raw_input_contents")
        else:
            found[name] = from_binary(name, item.datatype, shape, raw[index])
    if missing := [name for name in known if name not in found]:
        raise InferenceError(f"the request has no input {missing[0]}")
    return found


def _typed(name: str, datatype: str, shape: list[int], contents: Any) -> np.ndarray:
    field = CONTENTS.get(datatype)
    if field is None:
        raise InferenceError(f"input {name}: {datatype} must be in raw_input_contents")
    if other := [found.name for found, _ in contents.ListFields() if found.name != field]:
        raise InferenceError(f"input {name}: has {other[0]}, but {datatype} belongs in {field}")
    values = list(getattr(contents, field))
    if datatype != BYTES:
        return from_json(name, datatype, shape, values)
    if len(values) != check_shape(name, shape):
        raise InferenceError(f"input {name}: {len(values)} elements do not fit the shape {shape}")
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _requested(request: Any) -> dict[str, bool] | None:
    outputs: dict[str, bool] = {}
    for item in request.outputs:
        if item.name in outputs:
            raise InferenceError(f"output {item.name:.80} is requested twice")
        refuse(_parameters(item.parameters), UNSUPPORTED, f"output {item.name:.80}")
        outputs[item.name] = True
    return outputs or None


def _parameters(parameters: Any) -> dict[str, Any]:
    """Values of a map of InferParameters; None for one without a value."""
    return {
        name: getattr(value, choice) if (choice := value.WhichOneof("parameter_choice")) else None
        for name, value in parameters.items()
    }
