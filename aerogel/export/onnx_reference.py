"""A model that comes as an .onnx file: read with care, run on stock ONNX Runtime, compared with the artifact."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from aerogel.errors import ExportError, require
from aerogel.export.foreign_graph import normalize
from aerogel.export.reference_model import Batch, ReferenceModel
from aerogel.ops.linear_function import DOMAIN, IR_VERSION, OPSET
from aerogel.ops.value_type import VALUE_TYPES

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["OnnxReference", "read_onnx"]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Two correct computations may round an activation to neighbouring integers; the rest of the model carries that on.
_ROUNDING_OPERATORS = ("DynamicQuantizeLinear", "QuantizeLinear")
_QUANTIZED_TOLERANCE = 0.05
_UNBOUNDED = 512  # tokens, where nothing states a limit
_INT = {1: np.float32, 6: np.int32, 7: np.int64}


class OnnxReference(ReferenceModel):
    """See the module's docstring.

    Args:
        proto: the model, its external data loaded.
        path: the file, for messages.
        tokenizer_file: tokenizer.json, or None.
        max_length: limit that the files beside it state.
    """

    def __init__(
        self, proto: onnx.ModelProto, path: Path, tokenizer_file: Path | None, max_length: int | None
    ) -> None:
        onnx_ir = require("onnx_ir", "export")
        self.name, self.runtime, self.path = path.name, "ONNX Runtime", path
        self._model: ir.Model = onnx_ir.serde.deserialize_model(proto)
        normalize(self._model)
        self.tokenizer = None
        self._tokens = _tokenizer(tokenizer_file)
        if any(node.op_type in _ROUNDING_OPERATORS for node in self._model.graph):
            self.tolerance = _QUANTIZED_TOLERANCE
        inputs = {value.name: value for value in self._model.graph.inputs}
        self.inputs = tuple(name for name in _INPUTS if name in inputs)
        if self.inputs[:2] != _INPUTS[:2] or len(self.inputs) != len(inputs):
            raise ExportError(
                f"{path} takes {', '.join(map(str, inputs))}; a text encoder takes input_ids, attention_mask and "
                "perhaps token_type_ids"
            )
        self.outputs = tuple(str(value.name) for value in self._model.graph.outputs)
        self._dtypes = {name: _INT.get(int(inputs[name].dtype or 0), np.int64) for name in self.inputs}
        shape = inputs["input_ids"].shape
        fixed = [dim if isinstance(dim, int) else None for dim in shape] if shape is not None else []
        self.fixed = (fixed[0], fixed[1]) if len(fixed) == 2 else (None, None)
        self.max_length = self.fixed[1] or max_length or _UNBOUNDED
        self._words = _vocabulary(self._model)
        self._session: Any = None

    def tokenize(
        self, texts: list[str], pairs: list[str] | None = None, **options: Any
    ) -> dict[str, np.ndarray]:
        """See `ReferenceModel.tokenize`. Without a tokenizer, token ids are made from the characters."""
        limit = min(int(options.get("max_length", self.max_length)), self.max_length)
        rows = [self._ids(text, pairs[number] if pairs else None, limit) for number, text in enumerate(texts)]
        length = limit if options.get("padding") == "max_length" else max(len(ids) for ids, _ in rows)
        length = self.fixed[1] or length
        if self.fixed[0]:
            rows = (rows * self.fixed[0])[: self.fixed[0]]
        found = {name: np.zeros((len(rows), length), self._dtypes[name]) for name in self.inputs}
        for number, (ids, types) in enumerate(rows):
            found["input_ids"][number, : len(ids)] = ids
            found["attention_mask"][number, : len(ids)] = 1
            if "token_type_ids" in found:
                found["token_type_ids"][number, : len(ids)] = types
        return found

    def _ids(self, text: str, pair: str | None, limit: int) -> tuple[list[int], list[int]]:
        if self._tokens is not None:
            self._tokens.enable_truncation(limit)
            encoded = self._tokens.encode(text, pair) if pair is not None else self._tokens.encode(text)
            return list(encoded.ids), list(encoded.type_ids)
        joined = f"\0{text}\0" + (f"{pair}\0" if pair is not None else "")
        ids = [(ord(letter) * 7919 + 1) % self._words for letter in joined][:limit]
        return ids, [0] * len(ids)

    def run(self, inputs: Batch) -> dict[str, np.ndarray]:
        """See `ReferenceModel.run`."""
        if self._session is None:
            self._session = _session(self._model, self.path)
        found = self._session.run(list(self.outputs), dict(inputs))
        return {name: np.asarray(value) for name, value in zip(self.outputs, found, strict=True)}

    def graph(self) -> ir.Model:
        """See `ReferenceModel.graph`."""
        made: ir.Model = (
            copy.deepcopy(self._model) if not hasattr(self._model, "clone") else self._model.clone()
        )
        made.ir_version = max(made.ir_version or 0, IR_VERSION)
        return made

    def parameters(self) -> Mapping[str, np.ndarray]:
        """See `ReferenceModel.parameters`."""
        return {
            name: value.const_value.numpy()
            for name, value in self._model.graph.initializers.items()
            if value.const_value is not None
        }

    def rounded(self, values: Mapping[str, np.ndarray]) -> ReferenceModel:
        """See `ReferenceModel.rounded`."""
        import onnx_ir as ir

        other = copy.copy(self)
        other._model, other._session = self.graph(), None
        for name, value in values.items():
            other._model.graph.initializers[name].const_value = ir.tensor(value, name=name)
        return other

    def round_activations(self, matrices: Mapping[str, str]) -> None:
        """See `ReferenceModel.round_activations`. The input of a multiplication is rounded by nodes before it."""
        for node in list(self._model.graph):
            if node.op_type not in ("MatMul", "Gemm") or node.inputs[1] is None:
                continue
            weight = node.inputs[1]
            maker = weight.producer()
            name = str(
                (maker.inputs[0] if maker is not None and maker.inputs[0] is not None else weight).name
            )
            if name not in matrices or not VALUE_TYPES.get(matrices[name]).rounds_activations:
                continue
            rounded = _rounding(node.inputs[0])
            self._model.graph.insert_before(node, rounded)
            node.replace_input_with(0, rounded[-1].outputs[0])
        self._session = None


def _rounding(x: ir.Value | None) -> list[ir.Node]:
    """Nodes that round `x` to 8 bits, each row by its own scale: round(x 127 / max|x|) max|x| / 127."""
    import onnx_ir as ir

    def constant(value: Any) -> ir.Node:
        return ir.node("Constant", [], {"value": ir.tensor(np.asarray(value))})

    axes, most, least = constant([-1]), constant(np.float32(127)), constant(np.finfo(np.float32).tiny)
    size = ir.node("Abs", [x])
    top = ir.node("ReduceMax", [size.outputs[0], axes.outputs[0]], {"keepdims": 1})
    scale = ir.node("Div", [top.outputs[0], most.outputs[0]])
    safe = ir.node("Max", [scale.outputs[0], least.outputs[0]])
    divided = ir.node("Div", [x, safe.outputs[0]])
    whole = ir.node("Round", [divided.outputs[0]])
    back = ir.node("Mul", [whole.outputs[0], scale.outputs[0]])
    return [axes, most, least, size, top, scale, safe, divided, whole, back]


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an .onnx file and its external data; nothing in it is trusted.

    Raises:
        ExportError: it is damaged, its external data is missing or lies outside of its folder, it is an export of
            Aerogel already, or has operators that ONNX does not define.
    """
    library = require("onnx", "export")
    try:
        proto = library.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        raise ExportError(f"{path} is not an ONNX model ({_first_line(error)}); export it again") from error
    if not proto.graph.node or not proto.opset_import:
        raise ExportError(f"{path} is not an ONNX model: it has no graph; export it again")
    if any(function.domain == DOMAIN for function in proto.functions) or any(
        node.domain == DOMAIN for node in proto.graph.node
    ):
        raise ExportError(
            f"{path} has operators of domain {DOMAIN!r}: it is an export already; give the model it was made from"
        )
    _load_external(library, proto, path)
    try:
        library.checker.check_model(proto)
        opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
        if opset < OPSET:
            proto = require("onnx.version_converter", "export").convert_version(proto, OPSET)
        proto = require("onnx.shape_inference", "export").infer_shapes(proto, data_prop=True)
    except Exception as error:  # the checker, the converter and shape inference each raise their own
        raise ExportError(
            f"{path} cannot be brought to opset {OPSET} ({_first_line(error)}); export it again"
        ) from error
    return cast("onnx.ModelProto", proto)


def _load_external(onnx: Any, proto: onnx.ModelProto, path: Path) -> None:
    """Read tensors that lie in other files of the same folder."""
    helper = require("onnx.external_data_helper", "export")
    for tensor in proto.graph.initializer:
        if not helper.uses_external_data(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            raise ExportError(f"{path}: {tensor.name} lies in {location!r}, outside of the model's folder")
        file = path.parent / location
        if not file.is_file():
            raise ExportError(
                f"{path}: {tensor.name} lies in {file}, which does not exist; put it beside the model"
            )
        offset, length = (entries.get(key, "0") for key in ("offset", "length"))
        if not (offset.isdecimal() and length.isdecimal()) or int(offset) + int(length) > file.stat().st_size:
            raise ExportError(f"{file} is too short for {tensor.name} of {path.name}; copy it again")
        with file.open("rb") as stream:
            stream.seek(int(offset))
            tensor.raw_data = stream.read(int(length)) if int(length) else stream.read()
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT


def _session(model: ir.Model, path: Path) -> Any:
    import onnx_ir as ir
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    proto = ir.to_proto(model)
    try:
        return onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises types of its own
        raise ExportError(f"{path} cannot be run by ONNX Runtime ({_first_line(error)})") from error


def _tokenizer(file: Path | None) -> Any:
    if file is None:
        return None
    tokenizers = require("tokenizers", "export")
    try:
        made = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise ExportError(f"{file} is not a tokenizer ({_first_line(error)}); restore it") from error
    made.no_padding()
    return made


def _vocabulary(model: ir.Model) -> int:
    """Rows of the table that input_ids looks up; 2 where it is not found."""
    for value in model.graph.inputs:
        if value.name == "input_ids":
            for use in value.uses():
                table = use.node.inputs[0]
                if use.node.op_type == "Gather" and table is not None and table.const_value is not None:
                    return len(table.const_value.numpy())
    return 2


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
