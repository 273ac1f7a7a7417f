"""Decompose a graph into the old operators that the DeepSparse engine recognises and fuses.

The engine expects graphs as PyTorch exported them at the time: fixed shapes, LayerNormalization decomposed, and the
constant of a Mul or Add as the second operand. Otherwise it finds no GELU, and a sparse BERT-base takes a third longer.
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

__all__ = ["decompose", "decompose_graph"]

# The newest opset before Shape got attributes; ReduceMean has its axes as an attribute.
_OPSET, _IR_VERSION = 14, 7
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")
_COMMUTATIVE = ("Add", "Mul")


def decompose(
    model: Path, out: Path, batch: int, seq: int, rewrite: Callable[[ir.Model], None] | None = None
) -> Path:
    """Write `model` in these operators, for inputs of [batch, seq].

    The weights go to a separate file, which all shapes in the same folder share.

    Args:
        model: a file of standard operators, opset 18.
        out: the file to write. An existing file is kept.
        batch: sequences.
        seq: tokens per sequence.
        rewrite: a rewrite of the graph, in place, to apply first.

    Returns:
        `out`.

    Raises:
        ExportError: these operators cannot express the graph.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    if out.exists():
        return out
    ir, onnx = require("onnx_ir", "export"), require("onnx", "export")
    weights = out.with_name("weights.onnx")
    if not weights.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        # Write the data before the file that refers to it.
        with atomic_file(weights) as file, atomic_file(weights.with_name(SHARED_DATA)) as data:
            ir.save(ir.load(model), file, format="protobuf", external_data=SHARED_DATA)
            file.with_name(SHARED_DATA).replace(data)
    graph = ir.load(weights)
    if rewrite:
        rewrite(graph)
    decompose_graph(graph, batch, seq)
    with atomic_file(out) as file:
        ir.save(graph, file, format="protobuf")
        # The checker looks for the data next to the file, and refuses links.
        shutil.copyfile(out.with_name(SHARED_DATA), file.with_name(SHARED_DATA))
        try:
            onnx.checker.check_model(str(file), full_check=True)
        except Exception as error:  # onnx raises its own types
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(f"{model} cannot be written in opset {_OPSET}: {reason}") from error
    return out


def decompose_graph(model: ir.Model, batch: int, seq: int) -> None:
    """Decompose a graph in place; see `decompose`.

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
            _decompose_layer_norm(model.graph, node)
        elif node.op_type == "Reshape":
            # The attribute is newer than the target opset; removing it means its default.
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


def _decompose_layer_norm(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a LayerNormalization by mean, difference, square, root, division, scale and shift."""
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
