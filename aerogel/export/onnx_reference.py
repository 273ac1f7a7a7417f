"""A model that comes as an .onnx file: read with care, run on stock ONNX Runtime, compared with the artifact."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import ExportError, require
from aerogel.export.dims import name_inputs
from aerogel.export.foreign_graph import has_halves, normalize
from aerogel.export.onnx_file import first_line
from aerogel.export.reference_model import Batch, ReferenceModel
from aerogel.ops.linear_function import IR_VERSION
from aerogel.ops.value_type import VALUE_TYPES
from aerogel.system.printable import escaped

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["OnnxReference"]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Two correct computations may round an activation to neighbouring integers; the rest of the model carries that on.
_ROUNDING_OPERATORS = ("DynamicQuantizeLinear", "QuantizeLinear")
_QUANTIZED_TOLERANCE = 0.05
_HALF_TOLERANCE = 0.02  # of half precision, whose values are computed in float32 here
_UNBOUNDED = 512  # tokens, where nothing states a limit
_PROBED = 1024
_MAX_BYTES = 2**31 - 1 - (1 << 24)  # of weights in one message, beside the nodes
_INT = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}


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
        half = has_halves(self._model)
        _refuse_training(self._model, path)
        name_inputs(self._model.graph, _INPUTS)
        normalize(self._model)
        self.tokenizer = None
        self._tokens = _tokenizer(tokenizer_file)
        if any(node.op_type in _ROUNDING_OPERATORS for node in self._model.graph):
            self.tolerance = _QUANTIZED_TOLERANCE
        self._given_tolerance = max(self.tolerance, _HALF_TOLERANCE if half else 0.0)
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
        self._words = _vocabulary(self._model)
        self._session: Any = None
        self.max_length = self.fixed[1] or self._longest(max_length or _UNBOUNDED)

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
        found: dict[str, np.ndarray] = {
            name: np.zeros((len(rows), length), self._dtypes[name]) for name in self.inputs
        }
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

    def _longest(self, limit: int) -> int:
        """The most tokens, at most `limit`, that the model takes: a table of positions may be shorter than stated.

        Lengths beyond `_PROBED` are taken as stated, because they would cost memory and time.
        """
        if limit > _PROBED or self._takes(limit):
            return limit
        least, most = 1, limit  # runs, does not run
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if self._takes(middle) else (least, middle)
        return least

    def _takes(self, length: int) -> bool:
        # Positions may be counted by the ids that are not padding, which the last one of the vocabulary is not.
        content = {"input_ids": self._words - 1, "attention_mask": 1}
        batch: dict[str, np.ndarray] = {
            name: np.full((self.fixed[0] or 1, length), content.get(name, 0), self._dtypes[name])
            for name in self.inputs
        }
        try:
            self.run(batch)
        except ExportError:
            return False
        return True

    def run(self, inputs: Batch) -> dict[str, np.ndarray]:
        """See `ReferenceModel.run`."""
        if self._session is None:
            self._session = _session_of(self._model, self.path)
        try:
            found = self._session.run(list(self.outputs), dict(inputs))
        except Exception as error:  # onnxruntime raises types of its own
            shape = list(inputs["input_ids"].shape)
            raise ExportError(
                f"{self.path} cannot be run on input_ids {shape} ({first_line(error)})"
            ) from error
        # Half precision is float32 in the artifact.
        wide = (
            value.astype(np.float32) if value.dtype == np.float16 else np.asarray(value) for value in found
        )
        return dict(zip(self.outputs, wide, strict=True))

    def as_given(self) -> ReferenceModel:
        """See `ReferenceModel.as_given`: the file, run as it is written."""
        other = copy.copy(self)
        other.tolerance, other._session = (
            self._given_tolerance,
            _session(self.path, self.path, optimize=False),
        )
        return other

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


def _session_of(model: ir.Model, path: Path) -> Any:
    """A session of a model that is in memory; `path` is for messages."""
    import onnx_ir as ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size <= _MAX_BYTES:
        return _session(ir.to_proto(model).SerializeToString(), path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        ir.save(model, file, external_data="weights.data")
        return _session(file, path)


def _session(model: bytes | Path, path: Path, *, optimize: bool = True) -> Any:
    """A session of a serialized model, or of a file; with `optimize`, more activations may be rounded than it says."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises types of its own
        raise ExportError(f"{path} cannot be run by ONNX Runtime ({first_line(error)})") from error


def _refuse_training(model: ir.Model, path: Path) -> None:
    """Raise ExportError if a model drops values at random."""
    for node in model.graph:
        training = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
        constant = _constant(training)
        if constant is not None and constant.numpy().any():
            raise ExportError(
                f"{path} was exported in training mode: Dropout node {escaped(str(node.name))} makes its outputs "
                "random; call eval() on the model and export it again"
            )


def _constant(value: ir.Value | None) -> Any:
    """The tensor of an initializer or Constant node; None for anything else."""
    if value is None or value.const_value is not None:
        return None if value is None else value.const_value
    node = value.producer()
    tensor = node.attributes.get("value") if node is not None and node.op_type == "Constant" else None
    return tensor.as_tensor() if tensor is not None else None


def _tokenizer(file: Path | None) -> Any:
    if file is None:
        return None
    tokenizers = require("tokenizers", "export")
    try:
        made = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise ExportError(f"{file} is not a tokenizer ({first_line(error)}); restore it") from error
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
