"""Protocol buffers of the protocol's gRPC service, made from a table: neither generated code nor a build step.

Names and numbers are those of the service ``inference.GRPCInferenceService``; a test compares them with a public
client. The messages are in a pool of their own, so that other modules of the process may define the same names.
"""

from __future__ import annotations

import functools
from typing import Any

from aerogel.errors import require

__all__ = ["CONTENTS", "PACKAGE", "message"]

PACKAGE = "inference"

# Fields of each message, in the order of their numbers from 1: (name, type). "*" marks repeated fields, "?" members of
# a oneof; a capital begins the name of a message, and "map" is a map from string to InferParameter.
_MESSAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": (("live", "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", "bool"),),
    "ModelReadyRequest": (("name", "string"), ("version", "string")),
    "ModelReadyResponse": (("ready", "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (("name", "string"), ("version", "string"), ("extensions", "*string")),
    "ModelMetadataRequest": (("name", "string"), ("version", "string")),
    "ModelMetadataResponse.TensorMetadata": (("name", "string"), ("datatype", "string"), ("shape", "*int64")),
    "ModelMetadataResponse": (
        ("name", "string"), ("versions", "*string"), ("platform", "string"),
        ("inputs", "*ModelMetadataResponse.TensorMetadata"), ("outputs", "*ModelMetadataResponse.TensorMetadata"),
    ),
    "InferParameter": (("bool_param", "?bool"), ("int64_param", "?int64"), ("string_param", "?string")),
    "InferTensorContents": (
        ("bool_contents", "*bool"), ("int_contents", "*int32"), ("int64_contents", "*int64"),
        ("uint_contents", "*uint32"), ("uint64_contents", "*uint64"), ("fp32_contents", "*float"),
        ("fp64_contents", "*double"), ("bytes_contents", "*bytes"),
    ),
    "ModelInferRequest.InferInputTensor": (
        ("name", "string"), ("datatype", "string"), ("shape", "*int64"), ("parameters", "map"),
        ("contents", "InferTensorContents"),
    ),
    "ModelInferRequest.InferRequestedOutputTensor": (("name", "string"), ("parameters", "map")),
    "ModelInferRequest": (
        ("model_name", "string"), ("model_version", "string"), ("id", "string"), ("parameters", "map"),
        ("inputs", "*ModelInferRequest.InferInputTensor"),
        ("outputs", "*ModelInferRequest.InferRequestedOutputTensor"), ("raw_input_contents", "*bytes"),
    ),
    "ModelInferResponse.InferOutputTensor": (
        ("name", "string"), ("datatype", "string"), ("shape", "*int64"), ("parameters", "map"),
        ("contents", "InferTensorContents"),
    ),
    "ModelInferResponse": (
        ("model_name", "string"), ("model_version", "string"), ("id", "string"), ("parameters", "map"),
        ("outputs", "*ModelInferResponse.InferOutputTensor"), ("raw_output_contents", "*bytes"),
    ),
}  # fmt: skip

CONTENTS = {
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Field of InferTensorContents for each data type; FP16 has none."""


def message(name: str) -> Any:
    """The class of a message.

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    return _classes()[name]


@functools.cache
def _classes() -> dict[str, Any]:
    descriptor = require("google.protobuf.descriptor_pb2", "grpc")
    pool = require("google.protobuf.descriptor_pool", "grpc").DescriptorPool()
    factory = require("google.protobuf.message_factory", "grpc")
    file = descriptor.FileDescriptorProto(name="aerogel_oip.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name in sorted(_MESSAGES, key=lambda name: name.count(".")):
        outer, _, inner = name.rpartition(".")
        made[name] = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
    for name, fields in _MESSAGES.items():
        for number, (field, kind) in enumerate(fields, 1):
            _add_field(made[name], name, field, number, kind)
    pool.Add(file)
    return {
        name: factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES
    }


def _add_field(owner: Any, owner_name: str, name: str, number: int, kind: str) -> None:
    field = owner.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind[0] == "*" or kind == "map" else field.LABEL_OPTIONAL
    if kind[0] == "?":
        if not owner.oneof_decl:
            owner.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    kind = kind.lstrip("*?")
    if kind == "map":
        # A map is a repeated message of this name with key and value.
        entry = owner.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add_field(entry, "", "key", 1, "string")
        _add_field(entry, "", "value", 2, "InferParameter")
        kind = f"{owner_name}.ParametersEntry"
    if kind[0].isupper():
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
