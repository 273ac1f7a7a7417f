"""``Gemm(x, W, bias, transB=1)``: a linear layer of a two-dimensional x."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.export.linear import Linear, LinearRule, constant_shape

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RULE"]

_DEFAULTS = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
_LINEAR = _DEFAULTS | {"transB": 1}


class Gemm(LinearRule):
    """See the module's docstring."""

    def match(self, node: ir.Node) -> Linear | None:
        """See `LinearRule.match`."""
        if node.op_type != "Gemm" or node.domain:
            return None
        attributes = _DEFAULTS | {name: attribute.value for name, attribute in node.attributes.items()}
        x, weight, bias = (*node.inputs, None)[:3]
        shape = constant_shape(weight)
        if attributes != _LINEAR or x is None or weight is None or shape is None or len(shape) != 2:
            return None
        if bias is not None and constant_shape(bias) != shape[:1]:
            return None
        return Linear(x, weight, bias, node.outputs[0], (node,))


RULE = Gemm()
