"""Convert statically quantised linear layers to integer products, which DeepSparse runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import require

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["qdq_to_int"]


def qdq_to_int(model: ir.Model) -> None:
    """Rewrite DequantizeLinear, MatMul, Add in place as MatMulInteger, an integer Add, Cast and Mul.

    With activations q of scale s and weights W of scale t per column, both symmetric:
        x W + b = (q W + round(b / (s t))) (s t)
    Other readers of the dequantised activations read the original ones afterwards.

    Raises:
        MissingExtraError: onnx_ir is not installed.
    """
    ir = require("onnx_ir", "export")
    for node in list(model.graph):
        if node.op_type == "MatMul" and (found := _dequantized_inputs(node)):
            _rewrite(ir, model.graph, node, *found)
    for node in list(model.graph):
        source = _quantize_node(node)
        if source is not None:
            ir.convenience.replace_all_uses_with(node.outputs[0], source.inputs[0])
    require("onnx_ir.passes.common", "export").RemoveUnusedNodesPass()(model)


def _quantize_node(node: ir.Node) -> ir.Node | None:
    """Return the QuantizeLinear before a DequantizeLinear; None if `node` is not such a DequantizeLinear."""
    if node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return None
    source = node.inputs[0].producer()
    return source if source is not None and source.op_type == "QuantizeLinear" else None


def _dequantized_inputs(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """Return the two DequantizeLinear that feed a product of activations and weights."""
    left, right = (value.producer() if value is not None else None for value in node.inputs)
    if left is None or right is None or _quantize_node(left) is None or right.op_type != "DequantizeLinear":
        return None
    return (left, right) if right.inputs[0] is not None and right.inputs[0].const_value is not None else None


def _rewrite(ir: Any, graph: ir.Graph, product: ir.Node, left: ir.Node, right: ir.Node) -> None:
    bias = _bias(product)
    last = product if bias is None else product.outputs[0].consumers()[0]
    name = product.outputs[0].name
    scale = np.asarray(_array(left.inputs[1]) * _array(right.inputs[1]), np.float32)
    made = []

    def add(op_type: str, *inputs: Any, **attributes: Any) -> Any:
        made.append(ir.node(op_type, inputs, attributes=attributes))
        return made[-1].outputs[0]

    def constant(role: str, array: np.ndarray) -> Any:
        tensor = ir.tensor(array)
        value = ir.Value(
            name=f"{name}.{role}", const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype)
        )
        graph.register_initializer(value)
        return value

    zero = constant("zero", np.zeros((), np.int8))
    summed = add("MatMulInteger", left.inputs[0], right.inputs[0], zero, zero)
    if bias is not None:
        summed = add("Add", summed, constant("bias", np.rint(bias / scale).astype(np.int32)))
    add("Mul", add("Cast", summed, to=ir.DataType.FLOAT), constant("scale", scale))
    old = [product] if last is product else [product, last]
    ir.convenience.replace_nodes_and_values(graph, last, old, made, last.outputs, made[-1].outputs)


def _bias(product: ir.Node) -> np.ndarray | None:
    """Return the constant that the next node adds to a product, if nothing else reads the product."""
    readers = product.outputs[0].consumers()
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    (other,) = (value for value in readers[0].inputs if value is not product.outputs[0])
    return None if other is None or other.const_value is None else _array(other)


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.const_value.numpy())
