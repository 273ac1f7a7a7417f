"""Bodies of responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aerogel.errors import require
from aerogel.serve.oip.arrays import to_binary, to_json
from aerogel.serve.oip.datatypes import DTYPES, Tensor
from aerogel.serve.oip.request import InferRequest

__all__ = ["encode_response", "model_metadata", "server_metadata"]

_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}


def encode_response(
    model: str, version: str, request: InferRequest, arrays: Mapping[str, np.ndarray]
) -> tuple[bytes, int | None]:
    """Encode the outputs of a request.

    Args:
        model: name of the model.
        version: version of the model.
        request: the request, which says which outputs are binary.
        arrays: the outputs by name, in order.

    Returns:
        The body, and the value of its header ``Inference-Header-Content-Length``; None if the body is JSON only.

    Raises:
        InferenceError: a value has no JSON form.
    """
    orjson = require("orjson", "serve")
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name, array in arrays.items():
        item: dict[str, Any] = {
            "name": name,
            "datatype": _DATATYPES[array.dtype],
            "shape": list(array.shape),
        }
        if request.outputs[name] if request.outputs else request.binary:
            parts.append(to_binary(array))
            item["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            item["data"] = to_json(name, array)
        outputs.append(item)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id is not None:
        document["id"] = request.id
    head: bytes = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([head, *parts]), len(head) if parts else None


def server_metadata(version: str) -> dict[str, Any]:
    """Body of ``GET /v2``."""
    return {"name": "aerogel", "version": version, "extensions": ["binary_tensor_data"]}


def model_metadata(
    name: str, versions: Sequence[str], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> dict[str, Any]:
    """Body of ``GET /v2/models/NAME``."""

    def described(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
        return [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in tensors]

    return {
        "name": name,
        "versions": list(versions),
        "platform": "onnx_onnxv1",
        "inputs": described(inputs),
        "outputs": described(outputs),
    }
