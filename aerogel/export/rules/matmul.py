"""``Add(MatMul(x, Transpose(W)), bias)``, with or without the Add: a linear layer of an x of any rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.export.linear import Linear, LinearRule, constant_shape, only_user

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RULE"]


class MatMul(LinearRule):
    """See the module's docstring."""

    def match(self, node: ir.Node) -> Linear | None:
        """See `LinearRule.match`."""
        if node.op_type != "MatMul" or node.domain:
            return None
        x, right = node.inputs
        transpose = right.producer() if right is not None else None
        if x is None or transpose is None or transpose.op_type != "Transpose":
            return None
        weight = transpose.inputs[0]
        shape = constant_shape(weight)
        if (
            weight is None
            or shape is None
            or len(shape) != 2
            or transpose.attributes["perm"].as_ints() != (1, 0)
        ):
            return None
        product = node.outputs[0]
        add = only_user(product)
        if add is not None and add.op_type == "Add":
            bias = next((value for value in add.inputs if value is not product), None)
            if bias is not None and constant_shape(bias) == shape[:1]:
                return Linear(x, weight, bias, add.outputs[0], (node, add))
        return Linear(x, weight, None, product, (node,))


RULE = MatMul()
