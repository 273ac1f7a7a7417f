"""LayerNormalization that is written in its arithmetic, over the last axis.

    m = mean(x)    d = x - m    v = mean(d^2)    s = sqrt(v + epsilon)

and either ``d / s gamma + beta`` (PyTorch) or ``x (gamma / s) + (beta - m (gamma / s))`` (TensorFlow).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerogel.export.build import Builder, splice
from aerogel.export.fusions._graph import scalar
from aerogel.export.linear import constant_shape, only_user
from aerogel.export.pattern import Pattern

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["PATTERN", "LayerNormalization"]


@dataclass(frozen=True)
class _Norm:
    """What a LayerNormalization is made of; `last` is the node that computes its output."""

    x: ir.Value
    gamma: ir.Value
    beta: ir.Value
    epsilon: float
    last: ir.Node


class LayerNormalization(Pattern):
    """See the module's docstring."""

    def apply(self, model: ir.Model) -> int:
        """See `Pattern.apply`."""
        changed = 0
        for node in list(model.graph):
            norm = _match(node)
            if norm is None:
                continue
            build = Builder()
            y = build.op("LayerNormalization", norm.x, norm.gamma, norm.beta, axis=-1, epsilon=norm.epsilon)
            build.nodes[-1].name = norm.last.name
            splice(model.graph, norm.last, build.nodes, {norm.last.outputs[0]: y})
            changed += 1
        return changed


def _match(root: ir.Node) -> _Norm | None:
    """The LayerNormalization whose square root is `root`."""
    if root.op_type != "Sqrt" or root.domain:
        return None
    shifted = _made(root.inputs[0], "Add")
    if shifted is None:
        return None
    epsilon = next((scalar(value) for value in shifted.inputs if scalar(value) is not None), None)
    variance = next((value for value in shifted.inputs if scalar(value) is None), None)
    difference = _squared(_averaged(variance))
    sub = _made(difference, "Sub")
    if epsilon is None or not 0 <= epsilon < 1 or sub is None:
        return None
    x, mean = sub.inputs
    if x is None or mean is None or _averaged(mean) is not x:
        return None
    return _scaled_difference(root, x, mean, epsilon) or _scaled_input(root, x, mean, epsilon)


def _scaled_difference(root: ir.Node, x: ir.Value, mean: ir.Value, epsilon: float) -> _Norm | None:
    """``d / s gamma + beta``."""
    divided = only_user(root.outputs[0])
    if divided is None or divided.op_type != "Div" or divided.inputs[1] is not root.outputs[0]:
        return None
    if not _is_difference(divided.inputs[0], x, mean):
        return None
    product, add = _then(divided, "Mul"), None
    if product is not None:
        add = _then(product, "Add")
    if product is None or add is None:
        return None
    gamma, beta = _rest(product, divided.outputs[0]), _rest(add, product.outputs[0])
    return _norm(x, gamma, beta, epsilon, add)


def _scaled_input(root: ir.Node, x: ir.Value, mean: ir.Value, epsilon: float) -> _Norm | None:
    """``x (gamma / s) + (beta - m (gamma / s))``."""
    inverse = only_user(root.outputs[0])
    if inverse is None or inverse.op_type != "Reciprocal":
        return None
    product = _then(inverse, "Mul")
    if product is None:
        return None
    gamma, scale = _rest(product, inverse.outputs[0]), product.outputs[0]
    users = [use.node for use in scale.uses()]
    scaled = [node for node in users if node.op_type == "Mul" and _rest(node, scale) is x]
    offset = [node for node in users if node.op_type == "Mul" and _rest(node, scale) is mean]
    if len(users) != 2 or len(scaled) != 1 or len(offset) != 1:
        return None
    difference, add = _then(offset[0], "Sub"), _then(scaled[0], "Add")
    if difference is None or add is None or difference.inputs[1] is not offset[0].outputs[0]:
        return None
    if _rest(add, scaled[0].outputs[0]) is not difference.outputs[0]:
        return None
    return _norm(x, gamma, difference.inputs[0], epsilon, add)


def _norm(
    x: ir.Value, gamma: ir.Value | None, beta: ir.Value | None, epsilon: float, last: ir.Node
) -> _Norm | None:
    """The parts, if gamma and beta are vectors as long as the last axis."""
    shape = constant_shape(gamma)
    features = x.shape[-1] if x.shape is not None and len(x.shape) else None
    if gamma is None or beta is None or shape is None or len(shape) != 1 or constant_shape(beta) != shape:
        return None
    return _Norm(x, gamma, beta, epsilon, last) if features == shape[0] else None


def _averaged(value: ir.Value | None) -> ir.Value | None:
    """What `value` is the mean of, over the last axis, which it keeps."""
    node = _made(value, "ReduceMean")
    if node is None or not node.attributes.get_int("keepdims", 1):
        return None
    x = node.inputs[0]
    axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if x is None or axes is None or axes.size != 1:
        return None
    axis = int(axes.numpy().item())
    return x if axis == -1 or (x.shape is not None and axis == len(x.shape) - 1) else None


def _squared(value: ir.Value | None) -> ir.Value | None:
    """What `value` is the square of."""
    power = _made(value, "Pow")
    if power is not None:
        return power.inputs[0] if scalar(power.inputs[1]) == 2 else None
    product = _made(value, "Mul")
    return product.inputs[0] if product is not None and product.inputs[0] is product.inputs[1] else None


def _is_difference(value: ir.Value | None, x: ir.Value, mean: ir.Value) -> bool:
    sub = _made(value, "Sub")
    return sub is not None and sub.inputs[0] is x and (sub.inputs[1] is mean or _averaged(sub.inputs[1]) is x)


def _made(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that computes `value`, if it has that operator type."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type and not node.domain else None


def _then(node: ir.Node, op_type: str) -> ir.Node | None:
    """The only reader of the result of `node`, if it has that operator type."""
    user = only_user(node.outputs[0])
    return user if user is not None and user.op_type == op_type and not user.domain else None


def _rest(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other input of a binary node."""
    return next((other for other in node.inputs if other is not value), None)


PATTERN = LayerNormalization()
