"""Parse the body of an inference request, which is untrusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aerogel.serve.oip.arrays import from_binary, from_json
from aerogel.serve.oip.datatypes import DTYPES, InferenceError, Tensor
from aerogel.system.json_fields import Each, Either, MalformedJsonError, Number, OneOf, check, parse

__all__ = ["REQUEST_UNSUPPORTED", "UNSUPPORTED", "InferRequest", "check_tensor", "parse_request", "refuse"]

_PARAMETERS = Each(Either(str, bool, float, None))
_SIZE = Number(int, 0, 2**40)
_SCHEMA = {
    "id?": str,
    "parameters?": _PARAMETERS,
    "inputs": [
        {
            "name": str,
            "shape": [_SIZE],
            "datatype": OneOf(*DTYPES),
            "parameters?": _PARAMETERS,
            "data?": list,
        }
    ],
    "outputs?": [{"name": str, "parameters?": _PARAMETERS}],
}
UNSUPPORTED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification")
"""Parameters of a tensor for extensions that are not supported; ignoring them would change the answer."""

REQUEST_UNSUPPORTED = ("sequence_id", "sequence_start", "sequence_end")
"""Such parameters of a request."""


@dataclass(frozen=True)
class InferRequest:
    """A parsed request.

    Attributes:
        id: the client's name for the request, or None.
        parameters: parameters of the request.
        inputs: arrays by name.
        outputs: names of the outputs to return, in order, and whether each is returned as a binary tensor; None for
            all outputs.
        binary: whether outputs are binary unless said otherwise.
    """

    id: str | None
    parameters: Mapping[str, Any]
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, bool] | None
    binary: bool


def parse_request(body: bytes, header_length: str | None, tensors: Sequence[Tensor]) -> InferRequest:
    """Parse a request and compare its inputs with those of the model.

    Args:
        body: JSON, followed by binary tensors if `header_length` is given.
        header_length: value of the header ``Inference-Header-Content-Length``, the bytes of JSON; None without it.
        tensors: inputs of the model.

    Raises:
        InferenceError: the request is malformed, or does not fit the model.
    """
    head, rest = _split(body, header_length)
    try:
        document = check(parse(head), _SCHEMA)
    except MalformedJsonError as error:
        raise InferenceError(f"the request is malformed: {error}") from error
    parameters = document.get("parameters", {})
    refuse(parameters, REQUEST_UNSUPPORTED, "the request")
    known = {tensor.name: tensor for tensor in tensors}
    inputs: dict[str, np.ndarray] = {}
    position = 0
    for item in document["inputs"]:
        name = item["name"]
        if name in inputs:
            raise InferenceError(f"input {name:.80} is given twice")
        if name not in known:
            raise InferenceError(f"the model has no input {name[:80]!r}; it has {', '.join(known)}")
        check_tensor(known[name], item)
        own = item.get("parameters", {})
        refuse(own, UNSUPPORTED, f"input {name}")
        if "binary_data_size" in own:
            size = own["binary_data_size"]
            if "data" in item:
                raise InferenceError(f"input {name}: has both data and binary_data_size")
            if type(size) is not int or not 0 <= size <= len(rest) - position:
                raise InferenceError(
                    f"input {name}: binary_data_size must be an integer up to {len(rest) - position}, the bytes left"
                )
            data = rest[position : position + size]
            inputs[name] = from_binary(name, item["datatype"], item["shape"], data)
            position += size
        elif "data" in item:
            inputs[name] = from_json(name, item["datatype"], item["shape"], item["data"])
        else:
            raise InferenceError(f"input {name}: has neither data nor binary_data_size")
    if position != len(rest):
        raise InferenceError(f"{len(rest) - position} bytes after the last binary tensor")
    if missing := [name for name in known if name not in inputs]:
        raise InferenceError(f"the request has no input {missing[0]}")
    binary = _flag(parameters, "binary_data_output", False)
    return InferRequest(document.get("id"), parameters, inputs, _outputs(document, binary), binary)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """JSON and binary part of a body."""
    if header_length is None:
        return body, memoryview(b"")
    # Only ASCII digits: int() accepts signs, underscores and digits of other scripts.
    digits = header_length.isascii() and header_length.isdecimal() and len(header_length) <= 12
    if not digits or int(header_length) > len(body):
        raise InferenceError(
            f"Inference-Header-Content-Length must be a number of bytes up to {len(body)}, the size of the body"
        )
    size = int(header_length)
    return body[:size], memoryview(body)[size:]


def check_tensor(tensor: Tensor, item: Mapping[str, Any]) -> None:
    """Compare the ``datatype`` and ``shape`` of an input with those of the model.

    Raises:
        InferenceError: they do not fit.
    """
    if item["datatype"] != tensor.datatype:
        raise InferenceError(
            f"input {tensor.name}: {item['datatype']}, but the model takes {tensor.datatype}"
        )
    shape = item["shape"]
    if len(shape) != len(tensor.shape) or any(
        wanted not in (-1, size) for wanted, size in zip(tensor.shape, shape, strict=True)
    ):
        text = str(shape) if len(shape) <= 8 else f"of {len(shape)} sizes"
        raise InferenceError(
            f"input {tensor.name}: the shape {text} does not fit the model's {list(tensor.shape)}"
        )


def _outputs(document: Mapping[str, Any], binary: bool) -> dict[str, bool] | None:
    if not document.get("outputs"):
        return None
    outputs: dict[str, bool] = {}
    for item in document["outputs"]:
        if item["name"] in outputs:
            raise InferenceError(f"output {item['name']:.80} is requested twice")
        own = item.get("parameters", {})
        refuse(own, UNSUPPORTED, f"output {item['name']:.80}")
        outputs[item["name"]] = _flag(own, "binary_data", binary)
    return outputs


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise InferenceError(f"parameter {name} must be true or false")
    return value


def refuse(parameters: Mapping[str, Any], names: Sequence[str], owner: str) -> None:
    """Refuse parameters of extensions that are not supported; 0, false and "" are accepted.

    Raises:
        InferenceError: a parameter of `names` is set.
    """
    for name in names:
        if parameters.get(name) not in (None, 0, False, ""):
            raise InferenceError(f"{owner}: parameter {name} is not supported")
