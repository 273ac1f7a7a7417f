"""Graphs in the few old operators that the DeepSparse engine recognises and fuses.

It knows the graphs that PyTorch exported in its days: fixed shapes, LayerNormalization spelled out, the constant of a
product or a sum as its second operand (it finds no GELU otherwise, and a sparse BERT-base takes a third longer).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.bench.model import SHARED_DATA
from aerogel.errors import ExportError, require
from aerogel.system.atomic_io import atomic_file

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fixed", "plain"]

# The newest opset in which ReduceMean has its axes as an attribute and Shape has none.
_OPSET, _IR_VERSION = 14, 7
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")
_COMMUTATIVE = ("Add", "Mul")


def fixed(
    model: Path, out: Path, batch: int, seq: int, first: Callable[[ir.Model], None] | None = None
) -> Path:
    """Write `model` for inputs of [batch, seq] in those operators.

    Its weights go to a file beside it, which all shapes that lie in the same folder share.

    Args:
        model: a file of plain operators, opset 18.
        out: the file to write; it is returned as it is where it exists.
        batch: sequences.
        seq: tokens of each.
        first: what to rewrite in place before.

    Raises:
        ExportError: the graph has something that those operators cannot express.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    if out.exists():
        return out
    ir, onnx = require("onnx_ir", "export"), require("onnx", "export")
    weights = out.with_name("weights.onnx")
    if not weights.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        # The data is in place before the file that names it.
        with atomic_file(weights) as file, atomic_file(weights.with_name(SHARED_DATA)) as data:
            ir.save(ir.load(model), file, format="protobuf", external_data=SHARED_DATA)
            file.with_name(SHARED_DATA).replace(data)
    graph = ir.load(weights)
    if first:
        first(graph)
    plain(graph, batch, seq)
    with atomic_file(out) as file:
        ir.save(graph, file, format="protobuf")
        # The checker looks for the data beside the file, and takes no link to it.
        shutil.copyfile(out.with_name(SHARED_DATA), file.with_name(SHARED_DATA))
        try:
            onnx.checker.check_model(str(file), full_check=True)
        except Exception as error:  # onnx raises types of its own
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(f"{model} cannot be written in old operators: {reason}") from error
    return out


def plain(model: ir.Model, batch: int, seq: int) -> None:
    """Rewrite a model in place as `fixed` describes.

    Raises:
        MissingExtraError: onnxscript is not installed.
    """
    optimizer = require("onnxscript", "export").optimizer
    ir = require("onnx_ir", "export")
    for value in model.graph.inputs:
        value.shape = ir.Shape([batch, seq])
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    optimizer.optimize(model, onnx_shape_inference=True)
    for node in list(model.graph):
        if node.op_type == "LayerNormalization":
            _spell_out(model.graph, node)
        elif node.op_type == "Reshape":
            # Its default, and newer than the operators wanted here.
            node.attributes.pop("allowzero", None)
        elif node.op_type in _REDUCTIONS and len(node.inputs) > 1 and _constant(node.inputs[1]):
            axes: Any = node.inputs[1]
            node.resize_inputs(1)
            node.attributes["axes"] = ir.AttrInt64s("axes", axes.const_value.numpy().tolist())
        elif node.op_type in _COMMUTATIVE and _constant(node.inputs[0]) and not _constant(node.inputs[1]):
            first, second = node.inputs
            node.replace_input_with(0, second)
            node.replace_input_with(1, first)
    model.graph.opset_imports[""] = _OPSET
    model.ir_version = _IR_VERSION


def _spell_out(graph: ir.Graph, node: ir.Node) -> None:
    """Put mean, difference, square, root and the rest in the place of a LayerNormalization."""
    ir = require("onnx_ir", "export")
    x, gamma, beta = node.inputs
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    made: list[Any] = []

    def add(op_type: str, *inputs: Any, **attributes: Any) -> Any:
        made.append(ir.node(op_type, inputs, attributes=attributes))
        return made[-1].outputs[0]

    def number(value: float) -> Any:
        tensor = ir.tensor(np.array(value, np.float32))
        constant = ir.Value(
            name=f"{node.outputs[0].name}.constant.{len(made)}",
            const_value=tensor,
            shape=tensor.shape,
            type=ir.TensorType(tensor.dtype),
        )
        graph.register_initializer(constant)
        return constant

    centred = add("Sub", x, add("ReduceMean", x, axes=[-1], keepdims=1))
    variance = add("ReduceMean", add("Pow", centred, number(2.0)), axes=[-1], keepdims=1)
    scaled = add("Div", centred, add("Sqrt", add("Add", variance, number(epsilon))))
    add("Add", add("Mul", scaled, gamma), beta)
    ir.convenience.replace_nodes_and_values(graph, node, [node], made, node.outputs, made[-1].outputs)


def _constant(value: Any) -> bool:
    return value is not None and value.const_value is not None
