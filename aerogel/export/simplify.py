"""Simplify a rewritten graph into the patterns that ONNX Runtime's own fusions recognize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.linear import only_user

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["simplify"]


def simplify(model: ir.Model) -> None:
    """Fold constants, and remove unused nodes, metadata and doc strings; in place.

    Calls of functions in the domain "aerogel" have no definition yet and stay as they are.
    """
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer

    _transpose_weights(model)
    optimizer.optimize_ir(model, inline=False)
    _order_gelu(model)
    passes.ClearMetadataAndDocStringPass()(model)


def _transpose_weights(model: ir.Model) -> None:
    """Store dense weights transposed, as MatMul reads them. The optimizer does not fold large tensors."""
    import onnx_ir as ir

    for node in list(model.graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or not weight.is_initializer() or weight.const_value is None:
            continue
        name = f"{weight.name}.transposed"
        if name not in model.graph.initializers:
            array = np.ascontiguousarray(
                weight.const_value.numpy().transpose(node.attributes["perm"].as_ints())
            )
            tensor = ir.tensor(array, name=name)
            model.graph.register_initializer(
                ir.Value(name=name, const_value=tensor, type=weight.type, shape=ir.Shape(array.shape))
            )
        node.outputs[0].replace_all_uses_with(model.graph.initializers[name])
        model.graph.remove(node, safe=True)


def _order_gelu(model: ir.Model) -> None:
    """Turn ``x * (0.5 * (1 + erf(x / sqrt 2)))`` into ``(x * (1 + erf(x / sqrt 2))) * 0.5``.

    ONNX Runtime fuses only the second form, into Gelu, or BiasGelu with the bias before it. Both forms give the same
    bits, because a product with 0.5 is exact.
    """
    for node in model.graph:
        if node.op_type != "Erf":
            continue
        x = _input(_producer(node.inputs[0]), 0)
        half_times = _user(_user(node, "Add"), "Mul")
        product = _user(half_times, "Mul")
        if x is None or half_times is None or product is None or x not in product.inputs:
            continue
        index = next((i for i, value in enumerate(half_times.inputs) if _is_half(value)), None)
        if index is not None:
            half = half_times.inputs[index]
            half_times.replace_input_with(index, x)
            product.replace_input_with(list(product.inputs).index(x), half)


def _producer(value: ir.Value | None) -> ir.Node | None:
    return value.producer() if value is not None else None


def _input(node: ir.Node | None, index: int) -> ir.Value | None:
    return node.inputs[index] if node is not None else None


def _user(node: ir.Node | None, op_type: str) -> ir.Node | None:
    """The only node that reads the output of `node`, if it has that operator type."""
    user = only_user(node.outputs[0]) if node is not None else None
    return user if user is not None and user.op_type == op_type else None


def _is_half(value: ir.Value | None) -> bool:
    constant = value.const_value if value is not None else None
    return constant is not None and constant.size == 1 and constant.numpy().item() == 0.5
